"""Judge whether a run may follow the accepted one: not if it is worse by more than the tolerance.

The stage writes its judgement and does not fail: an experiment that is worse is a result too, and DVC keeps none of
which a stage failed. It is the flow that ends with GateError.
"""

from __future__ import annotations

import logging

from tasks.core.errors import GateError
from tasks.core.workspace import Workspace
from tasks.evaluation.regression_gate import check_gate
from tasks.params import Params

logger = logging.getLogger(__name__)


def run(params: Params) -> None:
    """What changed since the accepted run -> whether this one may follow it, and why."""
    workspace, section = Workspace(params.paths), params.gate
    change = workspace.read("evaluation.change")
    try:
        passed, why = True, check_gate(change, metric=section.metric, tolerance=section.tolerance)
    except GateError as refusal:
        passed, why = False, str(refusal)
        logger.warning("refused: %s", why)
    workspace.write("gate", {"passed": passed, "why": why, **section.model_dump()})
