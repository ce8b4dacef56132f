"""Flow runs that a killed process has left unfinished in a permanent server: the next flow marks them Crashed.

Each run bears a tag that names its process for good: host, pid, and when the process was started. It has it from the
beginning where a person starts it (`signed`); a run that Prefect's schedule has made gets it when it begins (`sign`).
"""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager
from uuid import UUID

import psutil
from prefect import get_client, tags
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

PREFIX = f"process:{socket.gethostname()}:"

UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


def signed() -> AbstractContextManager:
    """Flow runs that begin within note that this process runs them."""
    return tags(tag_of(psutil.Process()))


def sign(flow_run_id: UUID) -> None:
    """Note which process runs this flow."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run_id, tags={*client.read_flow_run(flow_run_id).tags, tag_of(psutil.Process())})


def mark() -> int:
    """Mark the dead ones; returns how many there were."""
    unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED)))
    dead = 0
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=unfinished):
            if any(tag.startswith(PREFIX) and not _is_alive(tag) for tag in run.tags):
                client.set_flow_run_state(run.id, Crashed(message="Its process was killed."), force=True)
                dead += 1
    return dead


def tag_of(process: psutil.Process) -> str:
    """The tag of what this process runs."""
    return f"{PREFIX}{process.pid}:{process.create_time():.0f}"


def _is_alive(tag: str) -> bool:
    pid, started = map(int, tag.removeprefix(PREFIX).split(":"))
    try:
        return abs(psutil.Process(pid).create_time() - started) < 2
    except psutil.Error:
        return False
