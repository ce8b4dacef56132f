"""The one Prefect task: a stage of dvc.yaml, reproduced by DVC, with its log, its state and its retries."""

from __future__ import annotations

import os
import threading
import time

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import task_run
from prefect.states import Cancelled, Completed, State

from flows import board, repro
from flows.graph import Resource
from flows.plan import PlanRow, read_params
from flows.repro import StageResult
from tasks import tracking
from tasks.core.edits import edits
from tasks.core.errors import PipelineError

RETRY_DELAY_S = 10.0
"""Before a stage with `meta.retries` is tried again: time for a host to come back."""

SLOTS: dict[Resource, threading.Semaphore] = {
    "cpu": threading.BoundedSemaphore(os.cpu_count() or 1),
    "gpu": threading.BoundedSemaphore(1),
}
"""How many stages of a resource run at once in this process."""


# DVC is the only cache, and a result is a line of the summary: Prefect keeps neither.
@task(cache_policy=NO_CACHE, persist_result=False)
def reproduce_stage(
    row: PlanRow, upstream: list[StageResult], parent: str | None, began_with: dict, pull: bool
) -> State[StageResult]:
    """Bring one stage up to date.

    row: the stage and what the plan foresaw.  upstream: results of the stages it reads from.
    parent: the pipeline run in MLflow, None where tracking is off.
    began_with: params.yaml when the flow run began; a stage does not start under other values.
    pull: a result that another clone has pushed is fetched.
    No process is started for a stage in which DVC saw no change and whose upstreams gave it nothing new.
    Cancelled when the flow was stopped. Raises PipelineError when the stage fails.
    """
    log = get_run_logger()
    if not row.differs and all(result.state == "fresh" for result in upstream if result.stage in row.inputs_from):
        log.info("fresh")
        board.ends(row.stage, "fresh")
        tracking.link_cached(row.stage, parent)
        return Completed(name="Fresh", data=StageResult(row.stage, "fresh"))
    with SLOTS[row.node.meta.resource]:
        if edited := edits(began_with, read_params()):
            raise PipelineError(
                f"{row.stage}: not started: params.yaml was edited since this run began ({edited[0]}). "
                "Run again: what is done stays done. Set the value back first, or run on with the new one."
            )
        log.info("%s: %s", "starts" if task_run.run_count == 1 else f"starts again ({task_run.run_count})", row.reason)
        board.begins(row.stage)
        started = time.perf_counter()

        def on_line(line: str) -> None:
            log.info(line.replace(f"{row.stage}: ", "", 1))  # the log's own prefix says it already
            board.says(row.stage, line)

        env = {tracking.PARENT_VARIABLE: parent} if parent else {}
        try:
            state = repro.reproduce(row.stage, on_line=on_line, env=env, pull=pull)
        except repro.StageStopped:
            log.warning("stopped")
            return Cancelled(message="The flow was stopped.")
        except PipelineError:
            log.error("failed. Run it by hand: %s", repro.command_by_hand(row.stage))
            board.ends(row.stage, "failed")
            raise
        seconds = time.perf_counter() - started
    board.ends(row.stage, state)
    if state != "ran":
        tracking.link_cached(row.stage, parent)
    return Completed(name=state.capitalize(), data=StageResult(row.stage, state, row.reason, seconds))
