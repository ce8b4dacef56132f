"""Judge whether a run may follow the accepted one: not if it is worse by more than the tolerance.

The stage writes its judgement and does not fail: an experiment that is worse is a result too, and DVC keeps none of
which a stage failed. It is the flow that ends with GateError.
"""

from __future__ import annotations

import logging

from tasks.core import tables
from tasks.core.errors import GateError
from tasks.params import Params

logger = logging.getLogger(__name__)


def run(params: Params) -> None:
    """What changed since the accepted run -> whether this one may follow it, and why."""
    section = params.gate
    change = tables.read_json(params.paths.evaluation / "change.json")
    try:
        passed, why = True, check_gate(change, metric=section.metric, tolerance=section.tolerance)
    except GateError as refusal:
        passed, why = False, str(refusal)
        logger.warning("refused: %s", why)
    tables.write_json(params.paths.gate, {"passed": passed, "why": why, **section.model_dump()})


def check_gate(change: dict, *, metric: str, tolerance: float) -> str:
    """One sentence on why the run may pass.

    change: evaluation/change.json (tasks/evaluation/accepted.py).  metric: one of its metrics, higher is better.
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
