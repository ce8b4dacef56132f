"""An ablation without its training: steps as changes of params, and the table of paired differences.

Axes: R steps, S seeds, B resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tasks.core.errors import ParamsError, did_you_mean
from tasks.evaluation.comparison import difference_row
from tasks.evaluation.scored_run import ScoredRun
from tasks.metrics.bootstrap import ends, normal_interval, resample
from tasks.metrics.protocols import protocol_named
from tasks.metrics.scored import Scored, mean_average_precision

ABLATIONS = Path("recipes/ablations")


@dataclass(frozen=True)
class AblationStep:
    """One row of the table. what: in words.  changes: of params, on top of those of all steps before it."""

    name: str
    what: str
    changes: Mapping[str, Any]


def read_steps(path: Path, *, skip: Sequence[str] = ()) -> list[AblationStep]:
    """The steps of an ablation file, a YAML list of {step, what, params}.

    skip: steps to leave out, their changes with them; the first cannot be, all others are measured against it.
    Raises ParamsError for a file that does not exist or has the keys of an earlier version, and for an unknown step.
    """
    if not path.is_file():
        others = sorted(ablation.stem for ablation in path.parent.glob("*.yaml"))
        raise ParamsError(f"{path}: no such ablation. {did_you_mean(path.stem, others)}")
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    for entry in entries:
        if "rung" in entry:
            raise ParamsError(f"{path}: key `rung` ('{entry['rung']}') is now called `step`. Rename it.")
    names = [entry["step"] for entry in entries]
    for name in skip:
        if name not in names[1:]:
            raise ParamsError(f"{path}: no step '{name}' that can be skipped. {did_you_mean(name, names[1:])}")
    return [AblationStep(e["step"], e["what"], e["params"]) for e in entries if e["step"] not in skip]


def measure_ablation(runs: Mapping[str, Sequence[ScoredRun]], *, num_resamples: int) -> list[dict]:
    """`ablation_rows` of scored runs: step -> its runs, the same seeds for every step, on the same images."""
    scored_RS = [
        [
            Scored(
                run.scores_NC, run.targets_NC, run.known_NC, run.thresholds_C,
                protocol_named(run.stamp["name"]), keep_order=True,
            )
            for run in of_step
        ]
        for of_step in runs.values()
    ]  # fmt: skip
    groups = next(iter(runs.values()))[0].group_ids
    drawn_RSB = [
        [resample(scored, num_resamples, resample_by=groups).headline["mAP"] for scored in row] for row in scored_RS
    ]
    map_RS = np.array([[mean_average_precision(scored) for scored in row] for row in scored_RS])
    return ablation_rows(list(runs), map_RS, np.array(drawn_RSB))


def ablation_rows(names: Sequence[str], map_RS: np.ndarray, drawn_RSB: np.ndarray, *, seed: int = 0) -> list[dict]:
    """Each step's mean mAP over seeds with its 95 % interval, and its difference to the step before and to the first.

    map_RS: mAP of each run, float64 (R, S).  drawn_RSB: mAP of each run on resample b of the test images, the same
    images in resample b of every run, float64 (R, S, B).  seed: of the drawing of seeds.
    Returns dicts with step, mAP, low, high, by_seed, over_previous and over_first; the last two are rows of `compare`,
    None for the first step.
    """
    mean_R = map_RS.mean(axis=1)
    drawn_RB = mean_over_drawn_seeds(drawn_RSB, seed=seed)
    rows = []
    for r, name in enumerate(names):
        low, high = ends(normal_interval(drawn_RB[r])) or (None, None)
        over_previous, over_first = (
            None if r == 0 else difference_row(mean_R[a], mean_R[r], drawn_RB[r] - drawn_RB[a]) for a in (r - 1, 0)
        )
        spread = {"mAP": float(mean_R[r]), "low": low, "high": high, "by_seed": map_RS[r].tolist()}
        rows.append({"step": name, **spread, "over_previous": over_previous, "over_first": over_first})
    return rows


def mean_over_drawn_seeds(values_RSB: np.ndarray, *, seed: int) -> np.ndarray:
    """Bootstrap over seeds, crossed with the one over images that made the last axis; float64 (R, B).

    For each resample, S - 1 of the S seeds are drawn with replacement, the same ones for every step: of so few, drawing
    S would make the variance too small by (S - 1) / S (McCarthy & Snowden 1985). One seed is kept as it is; the
    intervals then leave out the variance between trainings.
    """
    _, num_seeds, num_resamples = values_RSB.shape
    if num_seeds == 1:
        return values_RSB[:, 0]
    drawn_TB = np.random.default_rng(seed).integers(0, num_seeds, (num_seeds - 1, num_resamples))
    return np.take_along_axis(values_RSB, drawn_TB[None], axis=1).mean(axis=1)


def markdown(rows: Sequence[Mapping[str, Any]], learning_rates: Mapping[str, float]) -> str:
    """The rows as a table in percent, in the shape of the paper's table 6."""
    lines = ["| step | lr | mAP | against the step before | against the baseline |", "|---|---|---|---|---|"]
    for r, row in enumerate(rows):
        name = row["step"] if r == 0 else f"+ {row['step']}"
        columns = [name, f"{learning_rates[row['step']]:g}", _estimate(row)]
        columns += [_change(row["over_previous"]), _change(row["over_first"])]
        lines.append(f"| {' | '.join(columns)} |")
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
