"""The regression gate: may a run follow the accepted one? Not if it is worse by more than the tolerance."""

from __future__ import annotations

from tasks.core.errors import GateError
from tasks.core.formatting import number


def check_gate(change: dict, *, metric: str, tolerance: float) -> str:
    """One sentence on why the run may pass.

    change: evaluation/change.json (tasks/evaluation/accepted.py).  metric: one of its metrics, higher is better.
    tolerance: how much lower than the accepted run's it may be.
    Raises GateError when it is lower still, or when the two cannot be compared.
    """
    advice = "`python -m tasks accept` makes this run the accepted one"
    if change["how"] == "nothing accepted":
        return f"nothing was accepted yet, so every run passes; {advice}"
    row = change["metrics"].get(metric)
    if row is None or row["difference"] is None:
        reason = change["why"] or f"{metric} is undefined"
        raise GateError(
            f"gate: this run cannot be compared with the accepted one ({reason}). Read the report; {advice}."
        )
    figures = f"{metric} {number(row['now'], 4)}, accepted {number(row['before'], 4)}, tolerance {tolerance:g}"
    if row["difference"] < -tolerance:
        between = f", 95 % interval {row['low']:+.4f} to {row['high']:+.4f}" if row["low"] is not None else ""
        raise GateError(
            f"gate: {figures}: worse by {-row['difference']:.4f}{between}. "
            f"The report shows which labels lost; {advice}."
        )
    return figures
