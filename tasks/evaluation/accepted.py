"""The accepted (baseline) run: the one that later ones are compared with, and what a new one changes.

`python -m tasks accept` copies the metrics and the scored run of the last evaluation to `paths.accepted`, a folder that
a person commits. With the accepted model's scores, it is evaluated again: on today's test images, today's labels and
under today's protocol, paired with the new model. Without them (a scored run too large to keep), or where they do not
cover today's images and labels, the figures are put side by side as they were written, if they were measured alike.

    metrics.json         as `evaluate` wrote it; {} = nothing was accepted yet
    scored_run.parquet   the scores behind it; may be missing
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from tasks.core import tables
from tasks.core.errors import TableError
from tasks.evaluation.comparison import compare
from tasks.evaluation.scored_run import ScoredRun, read_scored_run
from tasks.metrics.protocols import Protocol

METRICS, RUN = "metrics.json", "scored_run.parquet"

MEASURED_BY = (
    *(field.name for field in fields(Protocol) if field.name != "source"),
    "images_sha256",
    "labels_sha256",
    "truth_sha256",
    "partition",
)
"""Entries of the stamp that must agree before figures stand side by side as they were written."""

SETTINGS = ("threshold_rule", "probabilities", "relations", "weights_kind", "model_sha256", "taxonomy_sha256")
"""Entries of the stamp that belong to the model: where they differ, that is what changed."""


def accept(metrics: Path, evaluation: Path, accepted: Path) -> dict:
    """Make the last evaluation the accepted run; returns its metrics. Raises TableError when there is none."""
    headline = tables.read_json(metrics)
    if not (evaluation / RUN).exists():
        raise TableError(f"{evaluation / RUN}: no such file. Run `dvc repro evaluate` first.")
    with tables.locked(accepted):
        with tables.atomic_path(accepted / RUN) as temporary:
            shutil.copyfile(evaluation / RUN, temporary)
        tables.write_json(accepted / METRICS, headline)
    return headline


def read_accepted(folder: Path, *, rename: Callable[[str], str] = str) -> tuple[dict, ScoredRun | None]:
    """The accepted metrics, {} before the first, and the scored run behind them, None where it was not kept.

    rename: label of then -> its name today.
    """
    if not (folder / METRICS).exists():
        return {}, None
    metrics = tables.read_json(folder / METRICS)
    if not (folder / RUN).exists():
        return metrics, None
    run = read_scored_run(folder / RUN)
    return metrics, replace(run, labels=[rename(label) for label in run.labels])


def compare_with_accepted(
    accepted: dict, accepted_run: ScoredRun | None, metrics: dict, run: ScoredRun, *, bootstrap: int, seed: int
) -> dict:
    """What changed since the accepted run, JSON-ready.

    accepted, metrics: metrics.json of both.  accepted_run, run: the scored runs.
    bootstrap: resamples for the paired intervals; 0 gives none.
    Returns {"how": "nothing accepted" | "paired" | "as written" | "not comparable", "why": str,
    "metrics": {name: {"before", "now", "difference", "low", "high"}}, "labels": {label: the same, of its AP},
    "settings": [{"name", "before", "now"}]}.
    """
    if not accepted:
        return _change("nothing accepted", why="`python -m tasks accept` makes a run the accepted one")
    settings = _unlike(accepted["protocol"], metrics["protocol"], SETTINGS)
    lacking = "its scores were not kept" if accepted_run is None else _not_covered(accepted_run, run)
    if not lacking and bootstrap:
        paired = compare(_evaluated_as(accepted_run, run), run, bootstrap=bootstrap, seed=seed)
        rows = {name: _row(row["a"], row["b"], row) for name, row in paired["metrics"].items()}
        labels = {label: _row(of["AP"]["a"], of["AP"]["b"], of["AP"]) for label, of in paired["labels"].items()}
        return _change("paired", settings=settings, metrics=rows, labels=labels)
    lacking = lacking or "evaluate.bootstrap is 0"
    if unlike := _unlike(accepted["protocol"], metrics["protocol"], MEASURED_BY):
        names = ", ".join(entry["name"] for entry in unlike)
        return _change("not comparable", why=f"{lacking}, and it was measured otherwise: {names}", settings=settings)
    before, now = accepted["test"], metrics["test"]
    rows = {name: _row(before.get(name), value) for name, value in now.items()}
    return _change("as written", why=lacking, settings=settings, metrics=rows)


def _change(how: str, *, why: str = "", settings: list | None = None, metrics: dict | None = None, labels=None) -> dict:
    return {"how": how, "why": why, "settings": settings or [], "metrics": metrics or {}, "labels": labels or {}}


def _row(before: float | None, now: float | None, interval: dict | None = None) -> dict:
    known = before is not None and now is not None
    ends = {name: interval[name] if interval else None for name in ("low", "high")}
    return {"before": before, "now": now, "difference": now - before if known else None, **ends}


def _unlike(before: dict, now: dict, names: tuple[str, ...]) -> list[dict]:
    return [
        {"name": name, "before": before.get(name), "now": now.get(name)}
        for name in names
        if before.get(name) != now.get(name)
    ]


def _not_covered(accepted: ScoredRun, run: ScoredRun) -> str:
    """What of today's test the accepted run did not score, '' when nothing."""
    for what, old, new in (("images", accepted.image_ids, run.image_ids), ("labels", accepted.labels, run.labels)):
        missing = len(set(new) - set(old))
        if missing:
            return f"it has no scores for {missing} of today's {len(new)} {what}"
    return ""


def _evaluated_as(accepted: ScoredRun, run: ScoredRun) -> ScoredRun:
    """The accepted model's scores and thresholds with the images, labels, truth and protocol of `run`."""
    n, c = (
        np.array(_positions(new, old), np.int64)
        for old, new in ((accepted.image_ids, run.image_ids), (accepted.labels, run.labels))
    )
    return replace(run, scores_NC=accepted.scores_NC[np.ix_(n, c)], thresholds_C=accepted.thresholds_C[c])


def _positions(names: list[str], among: list[str]) -> list[int]:
    position = {name: i for i, name in enumerate(among)}
    return [position[name] for name in names]
