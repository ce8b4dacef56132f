"""Prefect's server: that one answers, before a flow begins; a temporary one where none is configured."""

from __future__ import annotations

import signal

from flows import survivor
from tasks.core.errors import PipelineError


def reach_server() -> None:
    """Raises PipelineError where the configured server does not answer, or no temporary one can be started.

    The temporary server is started with SIGINT blocked, which a child inherits: Ctrl-C in a terminal goes to every
    process of its group, and without its server the flow would try for minutes to tell it that it was interrupted. It
    ends with this process, also when that is killed.
    """
    from prefect import get_client
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with get_client(sync_client=True) as client:  # one server a process: the flow finds it running
            failure = client.api_healthcheck()
    except RuntimeError as error:
        seconds = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
        raise PipelineError(
            f"Prefect's temporary server did not start within {seconds} s. Run it again when the machine is less busy, "
            "raise PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, or keep a server running: prefect server start."
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for server in SubprocessASGIServer._instances.values():
            if server.server_process is not None:
                survivor.guard(server.server_process.pid)
    if failure is not None:
        raise PipelineError(
            f"PREFECT_API_URL: no Prefect server answers at {PREFECT_API_URL.value()} ({type(failure).__name__}). "
            "Start it, correct the address, or do without: prefect config unset PREFECT_API_URL."
        )
