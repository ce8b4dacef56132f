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
from tasks.core.atomic_files import atomic_path, locked
from tasks.core.errors import TableError
from tasks.evaluation.comparison import compare
from tasks.evaluation.scored_run import ScoredRun, read_scored_run
from tasks.metrics.f1 import decide
from tasks.metrics.protocols import Protocol

METRICS, RUN = "metrics.json", "scored_run.parquet"
KEPT_DECISIONS = 100
"""Of each side: generously, so that the report may show more without evaluating again."""

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
    with locked(accepted):
        with atomic_path(accepted / RUN) as temporary:
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
    "settings": [{"name", "before", "now"}], "decisions": of `changed_decisions`}.
    """
    if not accepted:
        return _change("nothing accepted", why="`python -m tasks accept` makes a run the accepted one")
    settings = _unlike(accepted["protocol"], metrics["protocol"], SETTINGS)
    lacking = "its scores were not kept" if accepted_run is None else _not_covered(accepted_run, run)
    if not lacking and bootstrap:
        before = _evaluated_as(accepted_run, run)
        paired = compare(before, run, bootstrap=bootstrap, seed=seed)
        rows = {name: _row(row["a"], row["b"], row) for name, row in paired["metrics"].items()}
        labels = {label: _row(of["AP"]["a"], of["AP"]["b"], of["AP"]) for label, of in paired["labels"].items()}
        decisions = changed_decisions(before, run)
        return _change("paired", settings=settings, metrics=rows, labels=labels, decisions=decisions)
    lacking = lacking or "evaluate.bootstrap is 0"
    if unlike := _unlike(accepted["protocol"], metrics["protocol"], MEASURED_BY):
        names = ", ".join(entry["name"] for entry in unlike)
        return _change("not comparable", why=f"{lacking}, and it was measured otherwise: {names}", settings=settings)
    before, now = accepted["test"], metrics["test"]
    rows = {name: _row(before.get(name), value) for name, value in now.items()}
    return _change("as written", why=lacking, settings=settings, metrics=rows)


def changed_decisions(before: ScoredRun, now: ScoredRun) -> dict:
    """Where one of the two runs decides rightly and the other does not; both of the same images, labels and truth.

    Returns {"mended" | "broken": {"num": int, "worst": [{"image_id", "label", "truth": 1 | 0, "before", "now"}]}},
    before and now being the scores; those whose score moved most first, at most KEPT_DECISIONS, ties by position.
    """
    right_before, right_now = (
        decide(run.scores_NC, run.thresholds_C) == (now.targets_NC == 1) for run in (before, now)
    )
    moved_NC = np.abs(now.scores_NC - before.scores_NC)

    def listed(changed_NC: np.ndarray) -> dict:
        rows, columns = np.nonzero(changed_NC & now.known_NC)
        first = np.argsort(-moved_NC[rows, columns], kind="stable")[:KEPT_DECISIONS]
        worst = [
            {
                "image_id": now.image_ids[n],
                "label": now.labels[c],
                "truth": int(now.targets_NC[n, c]),
                "before": float(before.scores_NC[n, c]),
                "now": float(now.scores_NC[n, c]),
            }
            for n, c in zip(rows[first], columns[first], strict=True)
        ]
        return {"num": len(rows), "worst": worst}

    return {"mended": listed(~right_before & right_now), "broken": listed(right_before & ~right_now)}


def _change(how: str, *, why: str = "", settings: list | None = None, **parts: dict) -> dict:
    nothing = {"metrics": {}, "labels": {}, "decisions": {}}
    return {"how": how, "why": why, "settings": settings or [], **nothing, **parts}


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
