"""Out-of-fold scores of labelled images, scores of the pool, embeddings of both."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from tasks import tracking
from tasks.core.gaps import without
from tasks.core.gaps_shown import Shown, all_gaps
from tasks.core.ledger import Ledger
from tasks.core.prediction_table import Predictions
from tasks.core.workspace import Workspace
from tasks.params import EarlyStopping, Params, cross_fits
from tasks.sampling.stratification import stratified_folds
from tasks.training import checkpoint
from tasks.training.fitting import CHECKPOINTS, Network
from tasks.training.folds import learned_look, out_of_fold_scores

TRAINS = True


def run(params: Params) -> None:
    """Each fold's model scores the images that it never saw; the pool gets the folds' mean."""
    paths, section, workspace = params.paths, params.out_of_fold, Workspace(params.paths)
    vocabulary = workspace.vocabulary()
    ids, pool_ids = workspace.image_ids("train", "calibration"), workspace.image_ids("pool")
    ledger = Ledger("out_of_fold")
    ledger.num_in("images", len(ids) + len(pool_ids))
    few = cross_fits(params.calibrate, num_calibration := len(workspace.image_ids("calibration")))
    if not (few if section.enabled == "auto" else section.enabled):
        reason = f"{num_calibration} calibration images" if section.enabled == "auto" else "turned off in params.yaml"
        ledger.note(f"skipped: {reason}; cleaning works without a model's scores")
        ledger.dropped("images", len(ids) + len(pool_ids), reason)
        nothing = np.zeros((0, len(vocabulary.labels)), np.float32)
        workspace.write_predictions("out_of_fold", Predictions([], [], vocabulary.labels, nothing, "", "raw"))
        workspace.book(ledger)
        return

    labelled, pool = workspace.states("deduplicated", ids), workspace.states("deduplicated", pool_ids)
    network = Network(params.model, vocabulary, paths.shards, paths.finetuned.parent / CHECKPOINTS, params.seed)
    look = learned_look(network, params.finetune, labelled, pool, start=paths.pretrained)
    images = workspace.read("mapped.images", ["image_id", "source", "width", "height"])
    shown = Shown(*(look or (None, None)), np.arange(len(ids)))
    labelled = without(labelled, all_gaps(labelled, images, workspace.read("mapped.coverage"), shown))
    _, group_N = np.unique(workspace.groups(ids), return_inverse=True)
    present = csr_array(labelled.targets_NC.astype(bool))
    fold_N = stratified_folds(present, group_N, num_folds=section.num_folds, rng=np.random.default_rng(params.seed))

    # Without validation images nothing stops a fold early.
    own = {"epochs": section.epochs, "early_stopping": EarlyStopping(rule="none", patience=1)}
    result = out_of_fold_scores(
        network,
        params.finetune.model_copy(update=own),
        labelled,
        pool,
        fold_N,
        num_folds=section.num_folds,
        start=paths.pretrained,
        look=look,
        on_metrics=tracking.log_metrics,
    )
    splits = workspace.read("splits")
    partition_of = dict(zip(splits["image_id"].to_pylist(), splits["partition"].to_pylist(), strict=True))
    workspace.write_predictions(
        "out_of_fold",
        Predictions(
            ids + pool_ids,
            [partition_of[i] for i in ids + pool_ids],
            vocabulary.labels,
            result.scores,
            model_sha256=f"{section.num_folds} folds",
            weights_kind="ema" if params.finetune.ema.enabled else "raw",
            **result.look._asdict(),
        ),
    )
    checkpoint.remove_runs(network.checkpoints, "out_of_fold")
    ledger.num_out("images", len(ids) + len(pool_ids))
    ledger.note(f"{section.num_folds} models of {section.epochs} epochs; duplicate groups whole")
    workspace.book(ledger)
