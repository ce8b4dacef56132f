"""The last run in a few lines: mAP, what the thresholds changed, what cleaning found, where the report is."""

from __future__ import annotations

from functools import partial

from rich.console import Console
from rich.table import Table

from tasks.core.formatting import interval, number
from tasks.core.workspace import Workspace
from tasks.evaluation.headline import measured
from tasks.params import Params, load_params


def summarise(params: Params) -> Table:
    """A table of at most 80 columns from metrics.json. Raises TableError when nothing was evaluated yet."""
    metrics = Workspace(params.paths).read("metrics")
    test, half, cleaning, protocol = (metrics[key] for key in ("test", "at_threshold_0.5", "cleaning", "protocol"))
    shown = partial(number, undefined="undefined")  # a protocol may leave a mean over labels undefined
    table = Table(box=None, show_header=False, padding=(0, 2), pad_edge=False)
    bounds = interval(metrics["interval_95"].get("mAP"), to="to", of=test["mAP"])
    num_labels = protocol["num_labels"]
    with_positives = num_labels - len(protocol["labels_without_positives"])
    of_all = "" if with_positives == num_labels else f"{with_positives} of "
    details = [f"95 % interval {bounds}"] if bounds else []
    details += ["too many labels lack positives for an interval"] if "mAP" in metrics["interval_95_missing"] else []
    details += [f"{protocol['num_images']} images", f"{of_all}{num_labels} labels"]
    table.add_row("mAP", f"[bold]{shown(test['mAP'])}[/]", ", ".join(details))
    for name, title in (("OF1", "F1 overall"), ("CF1", "F1 per label"), ("image_F1", "F1 per image")):
        table.add_row(title, shown(test[name]), f"with fitted thresholds; {shown(half[name])} at 0.5")
    if cleaning:
        share = f"of {cleaning['planted']} planted errors, at precision {number(cleaning['precision'], 2)}"
        table.add_row("errors repaired", number(cleaning["recall"], 2), share)
    table.add_row("report", "", str(params.paths.report))
    if not measured(params.paths.metrics, params.paths.finetuned):
        table.add_row("note", "", f"not of a model in {params.paths.finetuned}; `python -m flows run` measures one")
    return table


def command() -> None:
    """What the last run achieved, and where its report is.

    Example: python -m tasks summary
    """
    Console(highlight=False).print(summarise(load_params()))
