"""The last run in a few lines: mAP, what the thresholds changed, what cleaning found, where the report is."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tasks.core import tables
from tasks.params import Params, load_params


def summarise(params: Params) -> Table:
    """A table of at most 80 columns from metrics.json. Raises TableError when nothing was evaluated yet."""
    found = tables.read_json(params.paths.metrics)
    test, half, cleaning = found["test"], found["at_threshold_0.5"], found["cleaning"]
    table = Table(box=None, show_header=False, padding=(0, 2), pad_edge=False)
    low, high = found["interval_95"].get("mAP") or (None, None)
    interval = f"95 % interval {low:.3f} to {high:.3f}" if low is not None else ""
    images, labels = found["protocol"]["num_images"], found["protocol"]["num_labels"]
    seen = labels - len(found["protocol"]["labels_without_positives"])
    of_all = "" if seen == labels else f"{seen} of "
    told = [interval, f"{images} images", f"{of_all}{labels} labels"]
    table.add_row("mAP", f"[bold]{_shown(test['mAP'])}[/]", ", ".join(part for part in told if part))
    for name, title in (("OF1", "F1 overall"), ("CF1", "F1 per label"), ("image_F1", "F1 per image")):
        table.add_row(title, _shown(test[name]), f"with fitted thresholds; {_shown(half[name])} at 0.5")
    if cleaning:
        share = f"of {cleaning['planted']} planted errors, at precision {cleaning['precision']:.2f}"
        table.add_row("errors repaired", f"{cleaning['recall']:.2f}", share)
    table.add_row("report", "", str(params.paths.report))
    if not measured(params):
        table.add_row("note", "", f"not of a model in {params.paths.finetuned}; `python -m flows run` measures one")
    return table


def _shown(number: float | None) -> str:
    """Three decimals; a protocol may leave a mean over labels undefined."""
    return "undefined" if number is None else f"{number:.3f}"


def measured(params: Params) -> dict[str, float | str | None]:
    """mAP, F1 and protocol of the model in paths.finetuned; {} where `evaluate` has not scored that one."""
    model = params.paths.finetuned / "model.json"
    if not params.paths.metrics.exists() or not model.exists():
        return {}
    found = tables.read_json(params.paths.metrics)
    if found["protocol"]["model_sha256"] != tables.sha256_of(model):  # as nn.model.model_sha256, without torch
        return {}
    return {**{name: found["test"][name] for name in ("mAP", "OF1", "CF1")}, "protocol": found["protocol"]["name"]}


def command() -> None:
    """What the last run achieved, and where its report is."""
    Console(highlight=False).print(summarise(load_params()))
