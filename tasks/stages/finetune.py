"""Train on the cleaned labels, and on unlabelled images where asked, from the weights of `paths.start`; resumable."""

from __future__ import annotations

from tasks import tracking
from tasks.core import training_speed
from tasks.core.errors import ModelError
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.sampling.replication import replication_of
from tasks.training.finetuning import FinetuneData, finetune_once
from tasks.training.fitting import CHECKPOINTS, Network, save, write_learning_curves

TRAINS = True


def run(params: Params) -> None:
    """Train partition (and the pool), validated on the calibration partition -> model folder and learning curves."""
    paths, settings, workspace = params.paths, params.finetune, Workspace(params.paths)
    if not paths.start.is_dir():
        raise ModelError(
            f"paths.start: {paths.start}: no such model folder. Run `pretrain`, or `migrate` into it, first."
        )
    train_ids = workspace.image_ids("train")
    data = FinetuneData(
        train=workspace.states("cleaned", train_ids),
        validation=workspace.states("cleaned", workspace.image_ids("calibration")),
        pool=None if settings.semi.name == "none" else workspace.states("cleaned", workspace.image_ids("pool")),
        replication_N=replication_of(workspace.read("replication"), train_ids) if settings.resample else None,
    )
    vocabulary, checkpoints = workspace.vocabulary(), paths.finetuned.parent / CHECKPOINTS
    network = Network(params.model, vocabulary, paths.shards, checkpoints, params.seed)
    tuned = finetune_once(network, settings, data, "finetune", start=paths.start, on_metrics=tracking.log_metrics)
    write_learning_curves(paths.learning_curves, tuned.result.history)
    training_speed.remember("finetune", params.model, tuned.result.speed)
    save(network, paths.finetuned, "finetune", tuned.model, tuned.result, augment=settings.augment)

    ledger = Ledger("finetune")
    ledger.num_in("images", len(train_ids))
    ledger.dropped("images", len(train_ids) - tuned.num_labelled, "no known label")
    ledger.dropped("images", tuned.num_labelled - tuned.num_learned, "labels withheld (labelled_per_class)")
    ledger.num_out("images", tuned.num_learned)
    if tuned.num_drawn:
        ledger.note(f"{settings.semi.name} learned from {tuned.num_drawn} images beside the labelled ones")
    ledger.note(f"{tuned.result.kind} weights of epoch {tuned.result.best_epoch} kept")
    workspace.book(ledger)
