"""`python -m tasks find-lr`: a learning rate for `finetune`, on the tables and shards that the stages left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from tasks.commands import print_json
from tasks.core.workspace import Workspace
from tasks.params import Params, load_params
from tasks.stages.finetune import trained
from tasks.training.fitting import build_model, forget, image_set
from tasks.training.lr_finder import search_lr, sweep_lr

NAME = "find-lr"


def find_lr(params: Params, *, min_lr: float, max_lr: float, num_trials: int) -> dict:
    """A suggestion and what it rests on, JSON-ready.

    num_trials: 0 sweeps from `min_lr` to `max_lr` once, over an epoch, and suggests where the loss falls fastest; else
        so many runs of `finetune`, each judged by its mAP on the calibration images.
    Raises ModelError when the sweep diverges too early or Optuna is not installed.
    """
    if num_trials:
        return searched(params, min_lr=min_lr, max_lr=max_lr, num_trials=num_trials)
    words = Workspace(params.paths).vocabulary()
    ids = Workspace(params.paths).image_ids("train")
    dense = Workspace(params.paths).states("cleaned", ids, words.labels)
    model, loss = build_model(params, words, params.finetune, start=params.paths.start, dense=dense)
    images = image_set(params, dense, dense.has_known_labels())
    found = sweep_lr(model, loss, images, params.finetune, seed=params.seed, min_lr=min_lr, max_lr=max_lr)
    return {"lr": found.lr, "method": "range test", "steps": len(found.lrs)}


def searched(params: Params, *, min_lr: float, max_lr: float, num_trials: int) -> dict:
    """The best of `num_trials` runs, chosen by tree-structured Parzen estimation."""
    scores: dict[str, float] = {}

    def objective(lr: float, report: Callable[[int, float], None]) -> float:
        settings = params.finetune.model_copy(update={"lr": lr})
        _, result, _ = trained(params.model_copy(update={"finetune": settings}), NAME, start=params.paths.start)
        forget(params, NAME)
        scores[f"{lr:.3g}"] = result.best_score
        return result.best_score

    lr = search_lr(objective, min_lr=min_lr, max_lr=max_lr, seed=params.seed, num_trials=num_trials)
    return {"lr": lr, "method": "TPE", "calibration_mAP": scores}


def command(
    min_lr: Annotated[float, typer.Option(min=0, help="lowest rate; a summed loss wants far lower ones")] = 1e-4,
    max_lr: Annotated[float, typer.Option(min=0, help="highest rate")] = 0.1,
    trials: Annotated[int, typer.Option(min=0, help="runs of finetune to try; 0: one sweep")] = 0,
) -> None:
    """A learning rate for `finetune`: by a range test in one sweep, or by Optuna over whole runs."""
    if not 0 < min_lr < max_lr:
        raise typer.BadParameter(f"0 < min-lr < max-lr does not hold for {min_lr:g} and {max_lr:g}")
    print_json(find_lr(load_params(), min_lr=min_lr, max_lr=max_lr, num_trials=trials))
