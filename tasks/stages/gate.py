"""Refuse a run that is worse than the accepted one by more than the tolerance; the report says why."""

from __future__ import annotations

from tasks import tables
from tasks.errors import GateError
from tasks.params import Params


def run(params: Params) -> None:
    """What changed since the accepted run -> why the run may pass. Raises GateError when it may not."""
    section = params.gate
    change = tables.read_json(params.paths.evaluation / "change.json")
    why = check_gate(change, metric=section.metric, tolerance=section.tolerance)
    tables.write_json(params.paths.gate, {"passed": True, "why": why, **section.model_dump()})


def check_gate(change: dict, *, metric: str, tolerance: float) -> str:
    """One sentence on why the run may pass.

    change: evaluation/change.json (tasks/accepted.py).  metric: one of its metrics, higher is better.
    tolerance: how much lower than the accepted run's it may be.
    Raises GateError when it is lower still, or when the two cannot be compared.
    """
    advice = "`python -m tasks accept` puts this run in force"
    if change["how"] == "nothing accepted":
        return f"nothing was accepted yet, so every run passes; {advice}"
    row = change["metrics"].get(metric)
    if row is None or row["difference"] is None:
        why = change["why"] or f"{metric} is undefined"
        raise GateError(f"gate: the accepted run cannot be held against this one ({why}). Read the report; {advice}.")
    told = f"{metric} {row['now']:.4f}, accepted {row['before']:.4f}, tolerance {tolerance:g}"
    if row["difference"] < -tolerance:
        between = f", 95 % interval {row['low']:+.4f} to {row['high']:+.4f}" if row["low"] is not None else ""
        raise GateError(
            f"gate: {told}: worse by {-row['difference']:.4f}{between}. The report shows which labels lost; {advice}."
        )
    return told
