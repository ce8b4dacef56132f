"""Prefect's temporary server, where none is configured: out of reach of what ends the flow, and ended with it.

Without its server a flow tries for minutes to tell it that it was stopped. So the server is in a session of its own,
where neither Ctrl-C nor a signal to the flow's group reaches it, and when it dies all the same the flow ends at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from prefect.server.api.server import SubprocessASGIServer
from rich.console import Console

from flows import repro, survivor


class TemporaryServer(SubprocessASGIServer):
    """Prefect has one a process: made before a client needs it, this is the one."""

    _is_stopping = False

    def _run_uvicorn_command(self) -> subprocess.Popen:
        with _sessions_of_their_own():
            process = super()._run_uvicorn_command()
        survivor.guard(process.pid)
        return process

    def stop(self) -> None:
        """As the flow ends."""
        self._is_stopping = True
        super().stop()

    def watch(self) -> None:
        """End this process with one line when the server, which answers by now, ends by itself."""
        threading.Thread(target=self._end_with, args=(self.server_process,), daemon=True).start()

    def _end_with(self, process: subprocess.Popen) -> None:
        process.wait()
        if self._is_stopping:
            return
        repro.stop_all()
        Console(stderr=True).show_cursor()
        sys.stdout.flush()
        print("error: Prefect's temporary server was ended. Run it again: what is done stays done.", file=sys.stderr)
        os._exit(1)  # the main thread may be waiting for the server's answer


@contextmanager
def _sessions_of_their_own() -> Iterator[None]:
    """What is started within leaves this process's group."""
    popen = subprocess.Popen
    subprocess.Popen = partial(popen, start_new_session=True)
    try:
        yield
    finally:
        subprocess.Popen = popen
