"""What is known before a training: images and labels that take part, too few positives, how long it takes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.plan import PlanRow
from tasks.core.formatting import duration
from tasks.core.training_speed import recall
from tasks.params import Params, cross_fits, load_params


def outlook(rows: Sequence[PlanRow]) -> list[str]:
    """Lines for the terminal; [] where there is no split yet, or nothing is left to train."""
    forecasts, stale = {row.stage: row.forecast for row in rows}, _stale_trainings(rows)
    if not stale or "split" not in forecasts:
        return []
    params = load_params()
    book = params.paths.ledger / "split.json"
    if not book.exists() or not params.paths.splits.exists():
        return ["Images, labels and time of the trainings are said once `split` has run: `flows run --until split`."]
    notes = json.loads(book.read_text(encoding="utf-8"))["notes"]
    when = "split" if forecasts["split"] == "fresh" else "the last split"
    return [*(f"{when}: {note}" for note in notes), *trainings(params, partition_sizes(params.paths.splits), stale)]


def outlook_after_split(rows: Sequence[PlanRow]) -> list[str]:
    """The trainings of a plan whose split has just been made; [] where it was not."""
    stale = _stale_trainings(rows)
    if not stale or not any(row.stage == "split" and row.forecast != "fresh" for row in rows):
        return []
    params = load_params()
    return list(trainings(params, partition_sizes(params.paths.splits), stale))


def _stale_trainings(rows: Sequence[PlanRow]) -> list[str]:
    forecasts = {row.stage: row.forecast for row in rows}
    return [stage for stage in ("pretrain", "out_of_fold", "finetune") if forecasts.get(stage, "fresh") != "fresh"]


def partition_sizes(path: Path) -> Counter[str]:
    """Images of each partition."""
    import pyarrow.parquet as pq

    return Counter(pq.read_table(path, columns=["partition"])["partition"].to_pylist())


def trainings(params: Params, sizes: Counter[str], stages: Sequence[str]) -> Iterator[str]:
    """A line a training of `stages`: models, epochs, images, and how long at the speed of the last one."""
    section, few = params.out_of_fold, cross_fits(params.calibrate, sizes["calibration"])
    if few:
        fits = "cross-fitted" if section.enabled else "from these alone, since out_of_fold is off"
        yield f"calibrate: fewer than {params.calibrate.cross_fit_below} images: thresholds are {fits}"
    labelled, folds = sizes["train"] + sizes["calibration"], section.num_folds
    enabled = few if section.enabled == "auto" else section.enabled
    runs = {  # models, epochs, images of each, whose speed
        "pretrain": (1, params.pretrain.epochs, params.pretrain.enabled * sizes["pretrain"], "pretrain"),
        "out_of_fold": (folds, section.epochs, enabled * labelled * (folds - 1) // folds, "finetune"),
        "finetune": (1, params.finetune.epochs, sizes["train"], "finetune"),
    }
    for stage in stages:
        models, epochs, images, like = runs[stage]
        if not images:
            continue
        speed = recall(like, params.model)
        took = "how long it takes is said after its first steps"
        if speed:
            took = f"about {duration(models * epochs * images / speed)} if as fast as last time"
        yield f"{stage}: {f'{models} models, ' if models > 1 else ''}{epochs} epochs of {images:,} images, {took}"
