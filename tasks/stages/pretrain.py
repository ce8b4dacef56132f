"""Train on the partially labelled sources (`use: pretrain`)."""

from __future__ import annotations

import shutil

from tasks import tracking
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.training.fitting import build_model, fit, image_set, save

TRAINS = True


def run(params: Params) -> None:
    """Known labels of the pretrain partition -> weights; nothing but a note when there is no such source."""
    settings, words = params.pretrain, Workspace(params.paths).vocabulary()
    ids = Workspace(params.paths).image_ids("pretrain")
    ledger = Ledger("pretrain")
    ledger.num_in("images", len(ids))
    if not settings.enabled or not ids:
        reason = "turned off in params.yaml" if not settings.enabled else "no source with `use: pretrain`"
        ledger.note(f"skipped: {reason}; fine-tuning starts from the backbone's own weights")
        shutil.rmtree(params.paths.pretrained, ignore_errors=True)  # an earlier run's weights
        params.paths.pretrained.mkdir(parents=True, exist_ok=True)
        ledger.dropped("images", len(ids), reason)
        Workspace(params.paths).book(ledger)
        return
    dense = Workspace(params.paths).states("deduplicated", ids, words.labels)
    kept = dense.has_known_labels()
    ledger.dropped("images", len(ids) - len(kept), "no known label")
    ledger.num_out("images", len(kept))

    model, loss = build_model(params, words, settings, start=None, dense=dense)
    result = fit(
        params, settings, "pretrain", model, loss, image_set(params, dense, kept), on_metrics=tracking.log_metrics
    )
    save(params, params.paths.pretrained, "pretrain", model, result, settings.augment)
    Workspace(params.paths).book(ledger)
