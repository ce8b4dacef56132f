"""The nightly schedule without a work pool: this process waits and runs the flow (prefect.yaml has the pools)."""

from __future__ import annotations

from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL

from flows.pipeline import pipeline
from flows.server import reach_server
from tasks.core.errors import PipelineError

NIGHTLY = Cron("0 2 * * *", timezone="UTC", slug="nightly")
"""As in prefect.yaml, slug included: whichever of the two came last has the schedule, and it is never doubled."""


def serve() -> None:
    """Run the pipeline on its schedule until interrupted. Raises PipelineError when no server keeps the schedule."""
    if not PREFECT_API_URL.value():
        raise PipelineError(
            "a schedule needs a Prefect server. Run `prefect server start` in another terminal, "
            "and `prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api` once."
        )
    reach_server()
    pipeline.serve(name="nightly", schedule=NIGHTLY)
