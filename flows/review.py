"""The flow around a person: push the queue to the screen, wait until they are done, pull their verdicts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.flow_runs import pause_flow_run
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from flows import alerts
from tasks.core.errors import PipelineError
from tasks.params import load_params

PATIENCE_S = 7 * 24 * 3600
"""How long a paused review waits for its person."""
CLOSING_S = 60


@flow(name="tagwright-review", persist_result=False)
def review(open_screen: bool = False) -> None:
    """Put the ranked queue before a person and bring back what they decided.

    open_screen: show the screen while the flow waits. Without it the person is told how to, for the machine that runs
    the flow may have no browser, and the screen may be open already.
    With a server the flow run is paused until somebody resumes it on its page; without one, until Enter is pressed.
    """
    review_step("push")
    with opened_screen() if open_screen else screen_elsewhere():
        wait_for_the_person()
    review_step("pull")


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="{step}")
def review_step(step: str) -> None:
    """`python -m tasks review STEP`, in a process of its own. Raises PipelineError when it fails."""
    if subprocess.run([sys.executable, "-m", "tasks", "review", step]).returncode:
        raise PipelineError(f"review {step} failed. Run it by hand: python -m tasks review {step}")


@contextmanager
def opened_screen() -> Iterator[None]:
    """The App in a process of its own, which prints its address."""
    process = subprocess.Popen([sys.executable, "-m", "tasks", "review", "open"])
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=CLOSING_S)


@contextmanager
def screen_elsewhere() -> Iterator[None]:
    """Log how to open the App in another terminal or from another machine."""
    port = load_params().review.port
    log = get_run_logger()
    log.info("in another terminal: python -m tasks review open, then http://127.0.0.1:%d", port)
    log.info("from another machine first: ssh -L %d:127.0.0.1:%d THIS_MACHINE", port, port)
    yield


def wait_for_the_person() -> None:
    """Raises PipelineError when there is neither a server to resume the run nor a terminal to press Enter at."""
    if PREFECT_API_URL.value():
        alerts.tell_of_review(f"python -m tasks review open; afterwards: prefect flow-run resume {flow_run.id}")
        get_run_logger().info("then resume this run on its page, or: prefect flow-run resume %s", flow_run.id)
        pause_flow_run(timeout=PATIENCE_S)
        return
    try:
        input("Review the queue in the browser, then press Enter here to bring the verdicts back: ")
    except EOFError as error:
        raise PipelineError(
            "review: the queue is pushed, but there is no terminal to wait at. When it is decided, bring the verdicts "
            "back: python -m tasks review pull"
        ) from error
