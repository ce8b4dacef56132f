"""One network fitted to labels: its images, its layers, a run that can be resumed, the folder that it leaves.

Shared by all who train (`pretrain`, `out_of_fold`, `finetune`, the commands `ablate` and `find-lr`), each with labels
and settings of its own. Axes: N images, C labels.
"""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import dataclass
from functools import cached_property
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
from tasks.nn.losses.class_weights import class_weights
from tasks.nn.model import Tagger, check_fit, save_model, start_from, xavier_init
from tasks.sampling.support import FEW
from tasks.training import checkpoint
from tasks.training.data import ImageSet
from tasks.training.distributed import default_device, is_main_process
from tasks.training.inference import Inference, infer
from tasks.training.loop import OnMetrics, Surroundings, TrainingData, TrainingResult, train
from tasks.training.probe import fit_head
from tasks.training.semi import SEMI, SemiMethod
from tasks.training.settings import Choice, Loss, ModelSettings, TrainingSettings

logger = logging.getLogger(__name__)

CHECKPOINTS = ".checkpoints"
"""Folder beside the models, outside the graph, so that DVC leaves it alone."""


@dataclass(frozen=True)
class Network:
    """What all trainings of a project share.

    model: backbone, head and input size.  vocabulary: its outputs, in column order.  shards: folder of the images.
    checkpoints: folder in which each run, by its name, keeps its state until its result is written.
    seed: of initial weights and of all that is drawn.
    """

    model: ModelSettings
    vocabulary: Vocabulary
    shards: Path
    checkpoints: Path
    seed: int

    @cached_property
    def reader(self) -> ShardReader:
        """The images, mapped when they are first asked for. Raises TableError when there are none."""
        return ShardReader(self.shards)

    def images(self, states: States, rows: np.ndarray | None = None) -> ImageSet:
        """The images of `states`, or only those at the positions `rows`, as the network takes them, with labels."""
        states = states if rows is None else states.take(rows)
        return ImageSet(
            self.reader,
            states.image_ids,
            tuple(self.model.image_px),
            self.model.resize,
            states.targets_NC,
            states.known_NC,
        )


def build_model(
    network: Network, loss: Loss, *, where: str, states: States, start: Path | None
) -> tuple[Tagger, torch.nn.Module]:
    """The network and its loss, initialised from the seed; weights of an earlier training come along.

    loss: one of LOSSES.  where: its key in params.yaml, for messages.
    states: training labels, from which graph heads count co-occurrence and the loss how much a label counts.
    start: a model folder; when None, or when it holds no model, the backbone's own weights are the start.
    Raises ParamsError or ModelError for parts that do not fit each other.
    """
    section, vocabulary = network.model, network.vocabulary
    torch.manual_seed(network.seed)
    backbone = build_backbone(
        section.backbone.name,
        weights=section.backbone.weights,
        options=section.backbone.options,
        image_px=tuple(section.image_px),
    )
    if section.backbone.freeze_batchnorm:
        freeze_batchnorm(backbone)
    context = {
        "num_labels": len(vocabulary.labels),
        "label_names": vocabulary.display_names,
        "groups": vocabulary.groups,
        "cooccurrence": Cooccurrence.count(states.targets_NC, states.known_NC),
    }
    head = section.head.build(HEADS, where="params.yaml: model.head", num_features=backbone.num_features, **context)
    if section.head_init == "xavier":
        xavier_init(head)
    criterion = loss.build(LOSSES, where=where, **context)
    if (weights_C := class_weights(loss.class_weights, states.targets_NC, states.known_NC)) is not None:
        criterion.weigh_labels(torch.from_numpy(weights_C))
    check_fit(head, criterion)
    model = Tagger(
        backbone, head, labels=vocabulary.labels, logit_scale=criterion.logit_scale, groups=criterion.softmax_groups
    )
    if start is not None and has_model(start):
        carried = start_from(model, start)
        logger.info(
            "weights of %s taken over; the head knows %d of %d labels", start, len(carried), len(vocabulary.labels)
        )
    return model, criterion


def build_semi(semi: Choice, model: Tagger, *, epochs: int) -> SemiMethod | None:
    """What learns from unlabelled images; its own layers are initialised after the model's. None: nothing does."""
    return semi.build(
        SEMI,
        where="params.yaml: finetune.semi",
        num_features=model.backbone.num_features,
        groups=model.groups,
        epochs=epochs,
    )


def has_model(folder: Path) -> bool:
    """Whether a stage left weights there."""
    return (folder / "model.safetensors").exists()


def fit(
    network: Network,
    settings: TrainingSettings,
    name: str,
    model: Tagger,
    loss: torch.nn.Module,
    data: TrainingData,
    *,
    probe: bool = False,
    semi: SemiMethod | None = None,
    on_metrics: OnMetrics | None = None,
) -> TrainingResult:
    """Train to the end, resuming where an earlier attempt was stopped; `model` then holds the chosen weights.

    name: of the run; its checkpoints and metrics bear it.  probe: fit the head on frozen features first.
    Raises TableError when there is no image to learn from; ParamsError for a head that `probe` cannot fit.
    """
    if not len(data.train):
        raise TableError(
            f"{name}: no image with a known label is left to learn from. The coverage report (paths.coverage_report in "
            "params.yaml) tells what the sources say, paths.splits which partition each image is in."
        )

    if network.reader.form.short_side_px < min(network.model.image_px):
        logger.warning(
            "shards hold images of %d px, the network takes %s: raise shard.short_side_px, or details are lost",
            network.reader.form.short_side_px, "x".join(map(str, network.model.image_px)),
        )  # fmt: skip

    def publish(metrics: dict[str, float], step: int) -> None:
        on_metrics({f"{name}/{key}": value for key, value in metrics.items()}, step)

    few = int(((data.train.targets_NC * data.train.known_NC).sum(0) < FEW).sum())
    logger.info(
        "%s learns %d labels from %s images, %d epochs%s", name, len(network.vocabulary.labels), f"{len(data.train):,}",
        settings.epochs, f"; {few} labels have fewer than {FEW} positives" if few else "",
    )  # fmt: skip
    folder = network.checkpoints / name
    if probe:
        fit_head(model, loss, data.train, folder, seed=network.seed, num_workers=_loader_workers())
    surroundings = Surroundings(folder, on_metrics=publish if on_metrics else None, num_workers=_loader_workers())
    result = train(model, loss, data, settings, seed=network.seed, surroundings=surroundings, semi=semi)
    model.load_state_dict(result.state)
    return result


def score_images(model: Tagger, images: ImageSet, *, batch_size: int = 128, with_embeddings: bool = False) -> Inference:
    """Scores float32 (N, C) of every image, not augmented; embeddings too when asked for."""
    device = default_device()
    return infer(
        model.to(device),
        images,
        batch_size=batch_size,
        device=device,
        with_embeddings=with_embeddings,
        num_workers=_loader_workers(),
    )


def _loader_workers() -> int:
    return loader_workers(accelerated=default_device().type != "cpu")


def save(
    network: Network, folder: Path, name: str, model: Tagger, result: TrainingResult, *, augment: list[dict]
) -> None:
    """Write the model folder, with what its images went through, and forget the run's checkpoints."""
    if not is_main_process():
        return
    config = {
        "head": {"name": network.model.head.name, "options": network.model.head.options},
        "image_px": network.model.image_px,
        "resize": network.model.resize,
        **network.reader.form._asdict(),
        "weights_kind": result.kind,
        "augment": augment,
    }
    save_model(folder, model, config)
    checkpoint.remove(network.checkpoints / name)


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
