"""Train on the partially labelled sources (`use: pretrain`)."""

from __future__ import annotations

import shutil

from tasks import tracking
from tasks.core import training_speed
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.training.fitting import CHECKPOINTS, Network, build_model, fit, save
from tasks.training.loop import TrainingData

TRAINS = True


def run(params: Params) -> None:
    """Known labels of the pretrain partition -> weights; nothing but a note when there is no such source."""
    paths, settings, workspace = params.paths, params.pretrain, Workspace(params.paths)
    ids = workspace.image_ids("pretrain")
    ledger = Ledger("pretrain")
    ledger.num_in("images", len(ids))
    if not settings.enabled or not ids:
        reason = "turned off in params.yaml" if not settings.enabled else "no source with `use: pretrain`"
        ledger.note(f"skipped: {reason}; fine-tuning starts from the backbone's own weights")
        shutil.rmtree(paths.pretrained, ignore_errors=True)  # an earlier run's weights
        paths.pretrained.mkdir(parents=True, exist_ok=True)
        ledger.dropped("images", len(ids), reason)
        workspace.book(ledger)
        return
    states = workspace.states("deduplicated", ids)
    learned = states.has_known_labels()
    ledger.dropped("images", len(ids) - len(learned), "no known label")
    ledger.num_out("images", len(learned))

    vocabulary, checkpoints = workspace.vocabulary(), paths.finetuned.parent / CHECKPOINTS
    network = Network(params.model, vocabulary, paths.shards, checkpoints, params.seed)
    model, loss = build_model(network, settings.loss, where="params.yaml: pretrain.loss", states=states, start=None)
    data = TrainingData(network.images(states, learned))
    result = fit(network, settings, "pretrain", model, loss, data, on_metrics=tracking.log_metrics)
    training_speed.remember("pretrain", params.model, result.speed)
    save(network, paths.pretrained, "pretrain", model, result, augment=settings.augment)
    workspace.book(ledger)
