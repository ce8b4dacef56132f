"""summary.py: the last run in a few lines, also where a figure is undefined."""

from __future__ import annotations

from rich.console import Console

from tasks.commands.summary import summarise
from tasks.core import tables
from tasks.params import load_params
from tests.imports import ROOT

NUMBERS = {"mAP": 0.5, "OF1": 0.25, "CF1": None, "image_F1": 0.75}


def test_a_mean_that_the_protocol_leaves_undefined_is_called_so(tmp_path):
    params = load_params(ROOT / "params.yaml")
    params = params.model_copy(update={"paths": params.paths.model_copy(update={"metrics": tmp_path / "metrics.json"})})
    metrics = {"test": NUMBERS, "at_threshold_0.5": NUMBERS, "cleaning": {}, "interval_95": {}}
    protocol = {"num_images": 3, "num_labels": 2, "labels_without_positives": ["dog"]}
    tables.write_json(params.paths.metrics, {**metrics, "protocol": protocol})
    console = Console(width=80)
    with console.capture() as shown:
        console.print(summarise(params))
    lines = {line.split("  ")[0]: line for line in shown.get().splitlines()}
    assert "0.500" in lines["mAP"]
    assert "3 images, 1 of 2 labels" in lines["mAP"]
    assert "undefined" in lines["F1 per label"]


def test_figures_that_came_with_the_repository_are_not_called_those_of_a_model_that_is_not_there(tmp_path):
    params = load_params(ROOT / "params.yaml")
    paths = params.paths.model_copy(
        update={"metrics": ROOT / params.paths.metrics, "finetuned": tmp_path / "finetuned"}
    )
    console = Console(width=200)
    with console.capture() as shown:
        console.print(summarise(params.model_copy(update={"paths": paths})))
    assert "not of a model in" in shown.get()
