"""A learning rate for `finetune`, on the tables and shards that the stages left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from tasks.commands import print_json
from tasks.commands.ablate import data_of, network_of
from tasks.core.workspace import Workspace
from tasks.params import Params, load_params
from tasks.training import checkpoint
from tasks.training.finetuning import finetune_once
from tasks.training.fitting import build_model
from tasks.training.lr_finder import search_lr, sweep_lr

NAME = "find-lr"


def find_lr(params: Params, *, min_lr: float, max_lr: float, num_trials: int) -> dict:
    """A suggestion and what it rests on, JSON-ready.

    num_trials: 0 sweeps from `min_lr` to `max_lr` once, over an epoch, and suggests where the loss falls fastest; else
        so many runs of `finetune`, each scored by its mAP on the calibration images.
    Raises ModelError when the sweep diverges too early or Optuna is not installed.
    """
    if num_trials:
        return searched(params, min_lr=min_lr, max_lr=max_lr, num_trials=num_trials)
    network, settings, workspace = network_of(params), params.finetune, Workspace(params.paths)
    states = workspace.states("cleaned", workspace.image_ids("train"))
    model, loss = build_model(
        network, settings.loss, where="params.yaml: finetune.loss", states=states, start=params.paths.start
    )
    images = network.images(states, states.has_known_labels())
    sweep = sweep_lr(model, loss, images, settings, seed=params.seed, min_lr=min_lr, max_lr=max_lr)
    return {"lr": sweep.lr, "method": "range test", "steps": len(sweep.lrs)}


def searched(params: Params, *, min_lr: float, max_lr: float, num_trials: int) -> dict:
    """The best of `num_trials` runs, chosen by tree-structured Parzen estimation."""
    network, data = network_of(params), data_of(params)
    scores: dict[str, float] = {}

    def objective(lr: float, report: Callable[[int, float], None]) -> float:
        settings = params.finetune.model_copy(update={"lr": lr})
        score = finetune_once(network, settings, data, NAME, start=params.paths.start).result.best_score
        checkpoint.remove(network.checkpoints / NAME)
        scores[f"{lr:.3g}"] = score
        return score

    lr = search_lr(objective, min_lr=min_lr, max_lr=max_lr, seed=params.seed, num_trials=num_trials)
    return {"lr": lr, "method": "TPE", "calibration_mAP": scores}


def command(
    min_lr: Annotated[float, typer.Option(min=0, help="lowest rate; a summed loss wants far lower ones")] = 1e-4,
    max_lr: Annotated[float, typer.Option(min=0, help="highest rate")] = 0.1,
    trials: Annotated[int, typer.Option(min=0, help="runs of finetune to try; 0: one sweep")] = 0,
) -> None:
    """A learning rate for `finetune`: by a range test in one sweep, or by Optuna over whole runs.

    Example: python -m tasks find-lr --min-lr 1e-4 --max-lr 0.1
    """
    if not 0 < min_lr < max_lr:
        raise typer.BadParameter(f"0 < min-lr < max-lr does not hold for {min_lr:g} and {max_lr:g}")
    print_json(find_lr(load_params(), min_lr=min_lr, max_lr=max_lr, num_trials=trials))
