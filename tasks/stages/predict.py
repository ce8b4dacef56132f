"""Scores of every partition with the chosen weights."""

from __future__ import annotations

from tasks.core.ledger import Ledger
from tasks.core.prediction_table import Predictions
from tasks.core.workspace import Workspace
from tasks.images.shards import ShardReader
from tasks.nn.model import load_config, load_model, model_sha256
from tasks.params import Params
from tasks.training.data import ImageSet
from tasks.training.fitting import score_images


def run(params: Params) -> None:
    """Model folder and shards -> one row of scores an image, in the taxonomy's label order."""
    folder, workspace = params.paths.finetuned, Workspace(params.paths)
    splits = workspace.read("splits").sort_by("image_id")
    ids, config = splits["image_id"].to_pylist(), load_config(folder)
    images = ImageSet(ShardReader(params.paths.shards), ids, tuple(config["image_px"]), config["resize"])
    scores_NC = score_images(load_model(folder), images, batch_size=params.predict.batch_size).scores_NC
    workspace.write_predictions(
        "predictions",
        Predictions(
            ids,
            splits["partition"].to_pylist(),
            workspace.vocabulary().labels,
            scores_NC,
            model_sha256=model_sha256(folder),
            weights_kind=config["weights_kind"],
        ),
    )
    ledger = Ledger("predict")
    ledger.num_in("images", len(ids))
    ledger.num_out("images", len(ids))
    workspace.book(ledger)
