"""The ablation ladder without its training: rungs as overlays of params, and the table of paired differences.

Axes: R rungs, S seeds, B resamples.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tasks.commands.recipe import merge
from tasks.core.errors import ParamsError, did_you_mean
from tasks.evaluation.comparison import difference_row
from tasks.metrics.bootstrap import ends, percentile_interval
from tasks.params import Params, parse_params

LADDERS = Path("recipes/ladders")


@dataclass(frozen=True)
class AblationStep:
    """One row of the table. params: of the recipe, with the changes of this rung and of all before it."""

    name: str
    what: str
    params: Params


def read_ladder(base: Mapping[str, Any], path: Path, *, skip: Sequence[str] = ()) -> list[AblationStep]:
    """The rungs of the file `path` on top of `base`, which is params.yaml with a recipe, parsed as YAML.

    skip: rungs to leave out, their changes with them; the first cannot be, all others are measured against it.
    Raises ParamsError for a ladder that does not exist, and naming the rung whose changes do not make valid params.
    """
    if not path.is_file():
        others = sorted(ladder.stem for ladder in path.parent.glob("*.yaml"))
        raise ParamsError(f"{path}: no such ladder. {did_you_mean(path.stem, others)}")
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = [entry["rung"] for entry in entries]
    for name in skip:
        if name not in names[1:]:
            raise ParamsError(f"{path}: no rung '{name}' that can be skipped. {did_you_mean(name, names[1:])}")
    rungs, raw = [], copy.deepcopy(dict(base))
    for entry in entries:
        if entry["rung"] not in skip:
            raw = merge(raw, copy.deepcopy(entry["params"]))
            params = parse_params(copy.deepcopy(raw), where=f"{path}: rung '{entry['rung']}'")
            rungs.append(AblationStep(entry["rung"], entry["what"], params))
    return rungs


def ladder_rows(names: Sequence[str], map_RS: np.ndarray, drawn_RSB: np.ndarray, *, seed: int = 0) -> list[dict]:
    """Each rung's mean mAP over seeds with its 95 % interval, and its difference to the rung before and to the first.

    map_RS: mAP of each run, float64 (R, S).  drawn_RSB: mAP of each run on resample b of the test images, the same
    images in resample b of every run, float64 (R, S, B).  seed: of the drawing of seeds.
    Returns dicts with rung, mAP, low, high, by_seed, step and total; the last two are rows of `compare`, None for the
    first rung.
    """
    mean_R = map_RS.mean(axis=1)
    drawn_RB = mean_over_drawn_seeds(drawn_RSB, seed=seed)
    rows = []
    for r, name in enumerate(names):
        low, high = ends(percentile_interval(drawn_RB[r])) or (None, None)
        step, total = (
            None if r == 0 else difference_row(mean_R[a], mean_R[r], drawn_RB[r] - drawn_RB[a]) for a in (r - 1, 0)
        )
        spread = {"mAP": float(mean_R[r]), "low": low, "high": high, "by_seed": map_RS[r].tolist()}
        rows.append({"rung": name, **spread, "step": step, "total": total})
    return rows


def mean_over_drawn_seeds(values_RSB: np.ndarray, *, seed: int) -> np.ndarray:
    """Bootstrap over seeds, crossed with the one over images that made the last axis; float64 (R, B).

    For each resample, S - 1 of the S seeds are drawn with replacement, the same ones for every rung: of so few, drawing
    S would make the variance too small by (S - 1) / S (McCarthy & Snowden 1985). One seed is kept as it is; the
    intervals then say nothing about the luck of training.
    """
    _, num_seeds, num_resamples = values_RSB.shape
    if num_seeds == 1:
        return values_RSB[:, 0]
    drawn_TB = np.random.default_rng(seed).integers(0, num_seeds, (num_seeds - 1, num_resamples))
    return np.take_along_axis(values_RSB, drawn_TB[None], axis=1).mean(axis=1)


def markdown(rows: Sequence[Mapping[str, Any]], learning_rates: Mapping[str, float]) -> str:
    """The rows as a table in percent, in the shape of the paper's table 6."""
    lines = ["| rung | lr | mAP | step | against the baseline |", "|---|---|---|---|---|"]
    for r, row in enumerate(rows):
        name = row["rung"] if r == 0 else f"+ {row['rung']}"
        cells = [name, f"{learning_rates[row['rung']]:g}", _estimate(row), _change(row["step"]), _change(row["total"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _estimate(row: Mapping[str, Any]) -> str:
    spread = "" if row["low"] is None else f" ± {50 * (row['high'] - row['low']):.2f}"
    return f"{100 * row['mAP']:.2f}{spread}"


def _change(row: Mapping[str, Any] | None) -> str:
    """Difference and interval; bold where the interval leaves out 0."""
    if row is None or row["low"] is None:
        return ""
    text = f"{100 * row['difference']:+.2f} [{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]"
    return f"**{text}**" if row["better"] else text
