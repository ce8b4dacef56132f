"""The flow: every stage of dvc.yaml after its upstreams, branches in parallel, everything reported before it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.futures import PrefectConcurrentFuture
from prefect.runtime import flow_run
from prefect.states import State
from prefect.task_runners import ThreadPoolTaskRunner

from flows import alerts, board, dead_runs, repro, terminal
from flows.outlook import outlook, outlook_after_split
from flows.plan import PlanRow, plan, read_params, write_durations
from flows.repro import StageResult
from flows.stage import RETRY_DELAY_S, reproduce_stage
from tasks import tracking
from tasks.core.errors import GateError, PipelineError
from tasks.params import load_params

ARTIFACT_KEY = "pipeline-summary"
FIGURES = ("mAP", "OF1", "CF1")
"""Of metrics.json, said at the end of a run."""


# The number of threads is no limit: most of them wait for an upstream. `flows.stage.SLOTS` is the limit.
@flow(
    name="tagwright",
    flow_run_name=tracking.run_name,
    task_runner=ThreadPoolTaskRunner(),
    persist_result=False,
    on_failure=[alerts.tell_of_failure],
    on_crashed=[alerts.tell_of_failure],
)
def pipeline(until: str | None = None, recipe: str | None = None, share: bool = False) -> None:
    """Bring the pipeline up to date.

    until: stop after this stage; run only what it needs.  recipe: apply recipes/NAME.yaml to params.yaml first.
    share: take what other clones have done from the DVC remote, and push what this one does, failed or not.
    Raises, after all results are reported, PipelineError if a stage failed; the message names each. GateError if the
    gate refused the result.
    """
    dead_runs.mark()
    dead_runs.sign(flow_run.id)
    if recipe:
        apply_recipe(recipe)
    if share:
        repro.share("fetch")
    rows = plan(until=until)
    terminal.show_lines(outlook(rows))
    with tracking.pipeline_run(flow_run.name, {"prefect.flow_run": str(flow_run.id)}) as parent:
        with board.shown({row.stage: row.last_s for row in rows}):
            results = run_stages(rows, parent, pull=share)
        report(results)
        if share:
            repro.share("push")
        raise_if_failed(results)
        raise_if_refused(results)


def apply_recipe(name: str) -> None:
    """Write recipes/NAME.yaml over params.yaml. Raises PipelineError with the command's own message."""
    process = subprocess.run([sys.executable, "-m", "tasks", "recipe", name], capture_output=True, text=True)
    if process.returncode:
        raise PipelineError(f"recipe '{name}': {process.stderr.strip().removeprefix('error: ')}")
    print(process.stdout.rstrip())


def run_stages(rows: Sequence[PlanRow], parent: str | None, *, pull: bool = False) -> list[StageResult]:
    """Run the plan to its end, whatever fails on the way; on Ctrl-C or a cancellation stop every stage."""
    futures: dict[str, PrefectConcurrentFuture[StageResult]] = {}
    began_with = read_params()
    repro.allow_starts()
    try:
        for row in rows:  # upstreams come first
            upstream = [futures[name] for name in row.node.upstream]
            stage = reproduce_stage.with_options(
                name=row.stage,
                task_run_name=row.stage,
                retries=row.node.meta.retries,
                retry_delay_seconds=RETRY_DELAY_S,
            )
            futures[row.stage] = stage.submit(row, upstream, parent, began_with, pull, wait_for=upstream)
        for name, future in futures.items():
            # In turns: Ctrl-C may reach another thread, and this one learns of it only when it wakes up.
            while not future.wrapped_future.done():
                future.wait(timeout=1)
            if name == "split" and _ended(future).is_completed():
                terminal.show_lines(outlook_after_split(rows))
    except BaseException:
        repro.stop_all()
        raise
    results: dict[str, StageResult] = {}
    for row in rows:
        results[row.stage] = _result(row, _ended(futures[row.stage]), results)
    return list(results.values())


def _ended(future: PrefectConcurrentFuture[StageResult]) -> State[StageResult]:
    """The last state of a task that has ended; the future takes it over only when it is asked."""
    future.wait()
    return future.state


def _result(row: PlanRow, state: State[StageResult], before: dict[str, StageResult]) -> StageResult:
    """The task's result; for a failed or skipped stage, whose task has none, what its state tells."""
    if state.is_completed():
        return state.result()
    blockers = [up for up in row.node.upstream if before[up].state in ("failed", "skipped")]
    if blockers:
        return StageResult(row.stage, "skipped", f"needs {', '.join(blockers)}")
    error = state.result(raise_on_failure=False)
    cause = str(error).partition("\n")[0].removeprefix(f"{row.stage}: ")
    return StageResult(row.stage, "failed", cause or str(state.message))


def report(results: Sequence[StageResult]) -> None:
    """Show the summary at the terminal and as an artifact of the flow run; remember how long stages took."""
    terminal.show_results(results)
    figures, page = outcome(results)
    terminal.show_outcome(figures, page)
    table = [{**asdict(result), "seconds": round(result.seconds, 1)} for result in results]
    measured = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    runs = tracking.page()
    described = [measured, page and f"Report: `{page}`", runs and f"[The runs in MLflow]({runs})"]
    description = "\n\n".join(filter(None, [*described, "What became of each stage, and why."]))
    create_table_artifact(table=table, key=ARTIFACT_KEY, description=description)
    write_durations({result.stage: round(result.seconds, 1) for result in results if result.state == "ran"})


def outcome(results: Sequence[StageResult]) -> tuple[dict[str, float], str]:
    """Headline figures and the report's path, of those stages that are up to date now; {} and '' where they are not."""
    good = {result.stage for result in results if result.state in ("ran", "restored", "fresh")}
    if not good & {"evaluate", "report"}:
        return {}, ""
    paths = load_params().paths
    test = json.loads(paths.metrics.read_text(encoding="utf-8"))["test"] if "evaluate" in good else {}
    figures = {name: test[name] for name in FIGURES if test.get(name) is not None}
    return figures, str(paths.report) if "report" in good else ""


def raise_if_failed(results: Sequence[StageResult]) -> None:
    """Raises PipelineError that names the failed stages, and what to type to see the first of them alone."""
    failed = [result for result in results if result.state == "failed"]
    if not failed:
        return
    skipped = [result.stage for result in results if result.state == "skipped"]
    causes = "; ".join(f"{result.stage}: {result.reason}" for result in failed)
    not_run = f" {len(skipped)} that need them did not run ({', '.join(skipped)})." if skipped else ""
    raise PipelineError(
        f"{len(failed)} of {len(results)} stages failed. {causes}.{not_run} "
        f"Run it by hand: {repro.command_by_hand(failed[0].stage)}"
    )


def raise_if_refused(results: Sequence[StageResult]) -> None:
    """Raises GateError when the stage `gate` wrote that this run may not follow the accepted one."""
    if any(result.stage == "gate" for result in results):
        gate = json.loads(load_params().paths.gate.read_text(encoding="utf-8"))
        if not gate["passed"]:
            raise GateError(gate["why"])
