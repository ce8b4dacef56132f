"""Scores of every partition with the chosen weights."""

from __future__ import annotations

from tasks.core.ledger import Ledger
from tasks.core.prediction_table import Predictions, write_predictions
from tasks.core.workspace import Workspace
from tasks.nn.model import load_config, load_model, model_sha256
from tasks.params import Params
from tasks.training.fitting import score_images, unlabelled_set


def run(params: Params) -> None:
    """Model folder and shards -> one row of scores an image, in the taxonomy's label order."""
    words, splits = Workspace(params.paths).vocabulary(), Workspace(params.paths).read("splits").sort_by("image_id")
    ids = splits["image_id"].to_pylist()
    model = load_model(params.paths.finetuned)
    scored = score_images(params, model, unlabelled_set(params, ids), batch_size=params.predict.batch_size)
    write_predictions(
        params.paths.predictions,
        Predictions(
            ids,
            splits["partition"].to_pylist(),
            words.labels,
            scored.scores_NC,
            model_sha256=model_sha256(params.paths.finetuned),
            weights_kind=load_config(params.paths.finetuned)["weights_kind"],
        ),
    )
    ledger = Ledger("predict")
    ledger.num_in("images", len(ids))
    ledger.num_out("images", len(ids))
    Workspace(params.paths).book(ledger)
