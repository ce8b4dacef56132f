"""summary.py: the last run in a few lines, also where a figure is undefined."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tasks.commands.summary import summarise
from tasks.core import tables
from tasks.params import Params, load_params
from tests.imports import ROOT

NUMBERS = {"mAP": 0.5, "OF1": 0.25, "CF1": None, "image_F1": 0.75}


def evaluated(folder: Path, intervals: dict[str, list[float]]) -> Params:
    """Params whose metrics.json holds NUMBERS with these intervals, beside no model."""
    params = load_params(ROOT / "params.yaml")
    places = {"metrics": folder / "metrics.json", "finetuned": folder / "finetuned"}
    metrics = {
        "test": NUMBERS,
        "at_threshold_0.5": NUMBERS,
        "cleaning": {},
        "interval_95": intervals,
        "interval_95_missing": {},
    }
    protocol = {"num_images": 3, "num_labels": 2, "labels_without_positives": ["dog"]}
    tables.write_json(places["metrics"], {**metrics, "protocol": protocol})
    return params.model_copy(update={"paths": params.paths.model_copy(update=places)})


def summary_of(params: Params) -> str:
    console = Console(width=200)
    with console.capture() as shown:
        console.print(summarise(params))
    return shown.get()


def test_a_mean_that_the_protocol_leaves_undefined_is_called_so(tmp_path):
    lines = {line.split("  ")[0]: line for line in summary_of(evaluated(tmp_path, {})).splitlines()}
    assert "0.500" in lines["mAP"]
    assert "3 images, 1 of 2 labels" in lines["mAP"]
    assert "undefined" in lines["F1 per label"]


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ([0.3, 0.6], "95 % interval 0.300 to 0.600, 3 images"),
        ([0.3, 0.4], "95 % interval 0.300 to 0.400 without the bias of few positives, 3 images"),
    ],
)
def test_an_interval_that_leaves_its_figure_out_says_why(tmp_path, bounds, said):
    assert said in summary_of(evaluated(tmp_path, {"mAP": bounds}))


def test_figures_are_not_called_those_of_a_model_that_is_not_there(tmp_path):
    assert "not of a model in" in summary_of(evaluated(tmp_path, {}))
