"""What the stages that run a network share: data, model and one fitted run."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tasks.core import tables
from tasks.core.environment import loader_workers
from tasks.core.errors import TableError
from tasks.core.states import States
from tasks.core.workspace import Vocabulary
from tasks.images.shards import ShardReader
from tasks.nn.backbone import build_backbone, freeze_batchnorm
from tasks.nn.cooccurrence import Cooccurrence
from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tasks.nn.model import Tagger, check_fit, save_model, start_from, xavier_init
from tasks.params import Finetune, Params, Training
from tasks.training import checkpoint
from tasks.training.data import ImageSet
from tasks.training.distributed import default_device, is_main_process
from tasks.training.inference import Inference, infer
from tasks.training.loop import TrainingResult, train
from tasks.training.semi import SEMI, SemiMethod
from tasks.training.validation import mean_average_precision

logger = logging.getLogger(__name__)


def image_set(params: Params, dense: States, rows: np.ndarray | None = None) -> ImageSet:
    """The images of `dense` (or only its `rows`) as the network takes them, with their labels."""
    rows = np.arange(len(dense.image_ids)) if rows is None else rows
    return ImageSet(
        ShardReader(params.paths.shards),
        [dense.image_ids[i] for i in rows],
        tuple(params.model.image_px),
        params.model.resize,
        dense.targets_NC[rows],
        dense.known_NC[rows],
    )


def unlabelled_set(params: Params, image_ids: list[str]) -> ImageSet:
    """Images to be scored."""
    return ImageSet(ShardReader(params.paths.shards), image_ids, tuple(params.model.image_px), params.model.resize)


def build_model(
    params: Params, words: Vocabulary, settings: Training, *, start: Path | None, dense: States
) -> tuple[Tagger, torch.nn.Module]:
    """The network and its loss, initialised from `seed`; weights of an earlier stage come along where there are any.

    start: a model folder; when None, or when it holds no model, the backbone's own weights are the start.
    dense: training labels, from which graph heads take their co-occurrence.
    """
    torch.manual_seed(params.seed)
    backbone = build_backbone(
        params.model.backbone.name,
        weights=params.model.backbone.weights,
        options=params.model.backbone.options,
        image_px=tuple(params.model.image_px),
    )
    if params.model.backbone.freeze_batchnorm:
        freeze_batchnorm(backbone)
    num_labels = len(words.labels)
    section = "finetune" if isinstance(settings, Finetune) else "pretrain"
    context = {
        "label_names": words.display_names,
        "groups": words.groups,
        "cooccurrence": Cooccurrence.count(dense.targets_NC, dense.known_NC),
    }
    head = params.model.head.build(
        HEADS, where="params.yaml: model.head", num_features=backbone.num_features, num_labels=num_labels, **context
    )
    if params.model.head_init == "xavier":
        xavier_init(head)
    loss = settings.loss.build(LOSSES, where=f"params.yaml: {section}.loss", num_labels=num_labels, **context)
    check_fit(head, loss)
    model = Tagger(backbone, head, labels=words.labels, logit_scale=loss.logit_scale, groups=loss.softmax_groups)
    if start is not None and has_model(start):
        carried = start_from(model, start)
        logger.info("weights of %s taken over; the head knows %d of %d labels", start, len(carried), num_labels)
    return model, loss


def build_semi(settings: Finetune, model: Tagger) -> SemiMethod | None:
    """What learns from unlabelled images; its own layers are initialised after the model's. None: nothing does."""
    return settings.semi.build(
        SEMI,
        where="params.yaml: finetune.semi",
        num_features=model.backbone.num_features,
        groups=model.groups,
        epochs=settings.epochs,
    )


def has_model(folder: Path) -> bool:
    """Whether a stage left weights there."""
    return (folder / "model.safetensors").exists()


def nowhere(metrics: dict[str, float], step: int) -> None:
    """Metrics that nobody records."""


def fit(
    params: Params,
    settings: Training,
    name: str,
    model: Tagger,
    loss: torch.nn.Module,
    train_set: ImageSet,
    val_set: ImageSet | None = None,
    *,
    on_metrics: Callable[[dict[str, float], int], None] = nowhere,
    **options,
) -> TrainingResult:
    """Train to the end, resuming where an earlier attempt was stopped; `model` then holds the chosen weights.

    Raises TableError when there is no image to learn from.
    """
    if not len(train_set):
        raise TableError(
            f"{name}: no image with a known label is left to learn from. {params.paths.coverage_report} tells what the "
            f"sources say, {params.paths.splits} which partition each image is in."
        )
    result = train(
        model,
        loss,
        train_set,
        val_set,
        settings,
        score=mean_average_precision,
        seed=params.seed,
        checkpoint_dir=checkpoint_dir(params, name),
        on_metrics=lambda metrics, step: on_metrics({f"{name}/{k}": v for k, v in metrics.items()}, step),
        num_workers=loader_workers(),
        **options,
    )
    model.load_state_dict(result.state)
    return result


def score_images(
    params: Params, model: Tagger, images: ImageSet, *, batch_size: int = 128, with_embeddings: bool = False
) -> Inference:
    """Scores float32 (N, C) of every image, not augmented; embeddings too when asked for."""
    device = default_device()
    return infer(
        model.to(device),
        images,
        batch_size=batch_size,
        device=device,
        with_embeddings=with_embeddings,
        num_workers=loader_workers(),
    )


def checkpoint_dir(params: Params, name: str) -> Path:
    """Where a run keeps its state until its result is written; outside the graph, so that DVC leaves it alone."""
    return params.paths.finetuned.parent / ".checkpoints" / name


def save(params: Params, folder: Path, name: str, model: Tagger, result: TrainingResult, augment: list[dict]) -> None:
    """Write the model folder, the augmentation policy with it, and forget the checkpoints."""
    if not is_main_process():
        return
    config = {
        "head": {"name": params.model.head.name, "options": params.model.head.options},
        "image_px": params.model.image_px,
        "resize": params.model.resize,
        "short_side_px": params.shard.short_side_px,
        "weights_kind": result.kind,
        "augment": augment,
    }
    save_model(folder, model, config)
    checkpoint.remove(checkpoint_dir(params, name))


def forget(params: Params, prefix: str) -> None:
    """Remove the checkpoints of all runs whose name starts with `prefix`."""
    for folder in checkpoint_dir(params, "").glob(f"{prefix}*"):
        checkpoint.remove(folder)


def write_learning_curves(path: Path, history: list[dict]) -> None:
    """One CSV row an epoch, empty where there is no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["epoch", "loss", "lr", "val_map_raw", "val_map_ema"], lineterminator="\n")
    writer.writeheader()
    for row in history:
        values = {"loss": row["loss"], "lr": row["lr"], "val_map_raw": row["val_raw"], "val_map_ema": row["val_ema"]}
        rounded = {k: "" if v is None or v != v else f"{v:.6g}" for k, v in values.items()}
        writer.writerow({"epoch": row["epoch"], **rounded})
    tables.write_text(path, text.getvalue())
