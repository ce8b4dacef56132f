"""Runs that nobody runs any more do not stay Running."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest
from prefect import flow, get_client
from prefect.runtime import flow_run
from prefect.states import Pending, Running

from flows import dead_runs

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_run_whose_process_is_dead_is_marked_crashed_and_others_are_left_alone():
    from flows.pipeline import pipeline

    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    tags = {
        "dead": dead_runs.tag_of(psutil.Process(ended.pid)),
        "mine": dead_runs.tag_of(psutil.Process()),
        "pid of another": f"{dead_runs.PREFIX}{os.getpid()}:1000000000",
        "elsewhere": "process:another host:1:1000000000",
    }
    ended.communicate()
    with get_client(sync_client=True) as client:
        runs = {name: client.create_flow_run(pipeline, state=Running(), tags=[tag]) for name, tag in tags.items()}
        runs["never begun"] = client.create_flow_run(pipeline, state=Pending(), tags=[tags["dead"]])
        assert dead_runs.mark() == 3
        states = {name: client.read_flow_run(run.id).state.type.value for name, run in runs.items()}
    assert states == {
        **{"dead": "CRASHED", "pid of another": "CRASHED", "never begun": "CRASHED"},
        **{"mine": "RUNNING", "elsewhere": "RUNNING"},
    }


def test_a_run_is_signed_beside_its_own_tags():
    from flows.pipeline import pipeline

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(pipeline, state=Running(), tags=["nightly"])
        dead_runs.sign(run.id)
        assert set(client.read_flow_run(run.id).tags) == {"nightly", dead_runs.tag_of(psutil.Process())}


@flow
def what_it_bears() -> list[str]:
    return list(flow_run.tags)


def test_a_run_that_a_person_starts_is_signed_from_the_beginning():
    with dead_runs.signed():
        assert what_it_bears() == [dead_runs.tag_of(psutil.Process())]
