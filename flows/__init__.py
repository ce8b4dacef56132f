"""Prefect only: dvc.yaml is the graph, DVC the cache; a flow gives each stage a state, a log, retries and a schedule.

    graph.py       dvc.yaml -> frozen StageNode -> order; pure, no prefect import
    dvc_status.py  what DVC says of all of them, and which modules' code changed
    plan.py        which stages are stale, and why
    repro.py       one stage through DVC as a process: streamed, named by what DVC did, stopped whole
    stage.py       the one task around it
    pipeline.py    the flow: each stage after its upstreams, branches in parallel, everything reported, fail last
    review.py      the flow around a person: push the queue, wait, pull the verdicts
    deploy.py      the nightly schedule (prefect.yaml has it for work pools)
    server.py      that Prefect's server answers
    temporary_server.py    Prefect's, where none is configured
    dead_runs.py   marks Crashed what killed flows left Running
    survivor.py    ends what a killed flow leaves
    dvc_locks.py   waits for other DVC processes
    board.py       the stages as a table while they run, at a terminal
    terminal.py    what a person sees of it afterwards

Nothing here imports torch, timm or a domain module. A setting below is a default: the environment wins.
"""

import os

_DEFAULTS = {
    # No telemetry: its host is out of reach on many GPU machines, and the failure is logged as an ERROR.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The temporary server of a run without one takes 10-17 s on two cores; Prefect gives up after 20.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    # The terminal shows the stages' lines; Prefect's own messages stay for the server's page.
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL": "INFO",
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "INFO",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FLOW_RUN_FMT": "%(asctime)s %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_TASK_RUN_FMT": "%(asctime)s %(task_run_name)s | %(message)s",
}
for _name, _value in _DEFAULTS.items():  # Prefect reads its settings when it is imported
    os.environ.setdefault(_name, _value)
