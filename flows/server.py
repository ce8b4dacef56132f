"""Prefect's server: that one answers, before a flow begins; a temporary one where none is configured."""

from __future__ import annotations

from tasks.core.errors import PipelineError


def reach_server() -> None:
    """Raises PipelineError where the configured server does not answer, or a temporary one cannot be started."""
    from prefect import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    temporary = None
    if not PREFECT_API_URL.value():
        from flows.temporary_server import TemporaryServer

        temporary = TemporaryServer()
    try:
        with get_client(sync_client=True) as client:  # one server a process: the flow finds it running
            failure = client.api_healthcheck()
    except RuntimeError as error:
        seconds = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
        raise PipelineError(
            f"Prefect's temporary server did not start within {seconds} s. Run it again when the machine is less busy, "
            "raise PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, or keep a server running: prefect server start."
        ) from error
    except ValueError as error:  # none is configured, and a temporary one is not allowed
        raise PipelineError(str(error)) from error
    if failure is not None:
        raise PipelineError(
            f"PREFECT_API_URL: no Prefect server answers at {PREFECT_API_URL.value()} ({type(failure).__name__}). "
            "Start it, correct the address, or do without: prefect config unset PREFECT_API_URL."
        )
    if temporary is not None:
        temporary.watch()
