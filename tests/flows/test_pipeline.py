"""The flow on toy repositories: order, parallel branches, failures, retries, what is fresh, what is reported."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tasks.core.errors import PipelineError
from tests.flows.conftest import copy_stage

pytestmark = pytest.mark.usefixtures("prefect_server")

# Writes when it ran, to tell what overlapped.
TIMED = """
    import sys, time
    start = time.time()
    time.sleep(1.5)
    open(sys.argv[1], "w").write(f"{start} {time.time()}")
"""
# Fails until it was called argv[2] times.
FLAKY = """
    import pathlib, sys
    calls = pathlib.Path(sys.argv[1] + ".calls")
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    if len(calls.read_text()) < int(sys.argv[2]):
        sys.exit("error: host not found")
    open(sys.argv[1], "w").write("done")
"""
DIAMOND = {
    "top": copy_stage("t", params=["top"]),
    "left": copy_stage("l", "t", params=["left"]),
    "right": copy_stage("r", "t"),
    "bottom": copy_stage("b", "l", "r"),
}


@pytest.fixture
def run_flow(monkeypatch):
    """Run the flow and return {stage: result} as it was reported, and the error it ended with, if any."""
    from flows import pipeline as module

    reported = []
    report = module.report
    monkeypatch.setattr(module, "report", lambda results: (report(results), reported.append(results)))

    def run(**options):
        error = None
        try:
            module.pipeline(**options)
        except PipelineError as raised:
            error = raised
        return {result.stage: result for result in reported[-1]} if reported else {}, error

    return run


def states(results) -> dict[str, str]:
    return {name: result.state for name, result in results.items()}


def test_everything_then_nothing_then_exactly_what_follows_an_edited_param(toy, run_flow, monkeypatch, capsys):
    from flows import repro

    toy(DIAMOND, {"top": 1, "left": 1})
    results, error = run_flow()
    assert error is None
    assert states(results) == dict.fromkeys(DIAMOND, "ran")
    assert Path("b").read_text() == "t\nl\nt\nr\nb\n"
    capsys.readouterr()

    started = []
    reproduce = repro.reproduce
    monkeypatch.setattr(repro, "reproduce", lambda stage, **kw: (started.append(stage), reproduce(stage, **kw))[1])
    results, error = run_flow()
    assert states(results) == dict.fromkeys(DIAMOND, "fresh")
    assert started == []
    shown = capsys.readouterr().out
    assert all(f"{stage:<6}  fresh" in shown for stage in DIAMOND)
    assert all(len(line) <= 80 for line in shown.splitlines())

    Path("params.yaml").write_text(yaml.safe_dump({"top": 1, "left": 2}))
    results, error = run_flow()
    # left writes the same bytes again, so DVC finds bottom fresh.
    assert states(results) == {"top": "fresh", "left": "ran", "right": "fresh", "bottom": "fresh"}
    assert sorted(started) == ["bottom", "left"]
    assert results["left"].reason == "left 1 -> 2"


def test_an_edit_of_code_starts_a_process_only_for_the_stages_that_it_concerns(digesting_toy, run_flow, monkeypatch):
    from flows import repro

    run_flow()
    started = []
    reproduce = repro.reproduce
    monkeypatch.setattr(repro, "reproduce", lambda stage, **kw: (started.append(stage), reproduce(stage, **kw))[1])
    (digesting_toy / "tasks/asl.txt").write_text("other")
    results, error = run_flow()
    assert error is None
    # train writes the same bytes again, so DVC finds score fresh; split is not asked about.
    assert states(results) == {"code": "ran", "train": "ran", "split": "fresh", "score": "fresh"}
    assert results["train"].reason == "code of tasks.asl"
    assert sorted(started) == ["code", "score", "train"]
    assert all(state == "fresh" for state in states(run_flow()[0]).values())


def test_a_failed_stage_skips_only_its_descendants_and_all_is_reported_before_the_flow_fails(toy, run_flow):
    import httpx
    from prefect.settings import PREFECT_API_URL

    from flows.pipeline import ARTIFACT_KEY

    toy(
        {
            "good": copy_stage("g"),
            "bad": {"cmd": "echo 'error: raw.json: truncated' >&2; exit 1", "outs": ["x"]},
            "after_good": copy_stage("ag", "g"),
            "after_bad": copy_stage("ab", "x"),
            "last": copy_stage("l", "ab", "ag"),
        }
    )
    results, error = run_flow()
    assert states(results) == {
        "good": "ran",
        "bad": "failed",
        "after_good": "ran",
        "after_bad": "skipped",
        "last": "skipped",
    }
    assert results["bad"].reason == "error: raw.json: truncated"
    assert results["last"].reason == "needs after_bad"
    assert str(error) == (
        "1 of 5 stages failed. bad: error: raw.json: truncated. 2 that need them did not run (after_bad, last). "
        "Run it by hand: python -m dvc repro --single-item bad"
    )
    assert set(json.loads(Path(".cache/durations.json").read_text())) == {"good", "after_good"}

    answer = httpx.get(f"{PREFECT_API_URL.value()}/artifacts/{ARTIFACT_KEY}/latest").raise_for_status()
    table = json.loads(answer.json()["data"])
    assert {row["stage"]: row["state"] for row in table} == states(results)


def test_branches_run_in_parallel_but_stages_on_the_gpu_one_at_a_time(toy, run_flow, monkeypatch):
    from flows import stage

    monkeypatch.setitem(stage.SLOTS, "cpu", threading.BoundedSemaphore(2))
    gpu = {"meta": {"resource": "gpu"}}
    names = {"cpu1": {}, "cpu2": {}, "gpu1": gpu, "gpu2": gpu}
    toy(
        {name: {"cmd": f"python timed.py {name}", "outs": [name], **meta} for name, meta in names.items()},
        scripts={"timed.py": TIMED},
    )
    _, error = run_flow()
    assert error is None
    spans = {name: [float(part) for part in Path(name).read_text().split()] for name in names}

    def overlap(one: str, other: str) -> bool:
        return spans[one][0] < spans[other][1] and spans[other][0] < spans[one][1]

    assert not overlap("gpu1", "gpu2")
    assert sum(overlap(a, b) for a in spans for b in spans if a < b) > 0


def test_only_a_stage_whose_meta_says_so_is_tried_again(toy, run_flow, monkeypatch):
    from flows import pipeline

    monkeypatch.setattr(pipeline, "RETRY_DELAY_S", 0)
    toy(
        {
            "network": {"cmd": "python flaky.py n 3", "outs": ["n"], "meta": {"retries": 2}},
            "plain": {"cmd": "python flaky.py p 2", "outs": ["p"]},
        },
        scripts={"flaky.py": FLAKY},
    )
    results, _ = run_flow()
    assert states(results) == {"network": "ran", "plain": "failed"}
    assert len(Path("n.calls").read_text()) == 3
    assert len(Path("p.calls").read_text()) == 1


def test_until_runs_what_the_stage_needs_and_an_unknown_stage_is_one_line(toy, run_flow):
    toy(DIAMOND, {"top": 1, "left": 1})
    results, _ = run_flow(until="left")
    assert states(results) == {"top": "ran", "left": "ran"}
    _, error = run_flow(until="botom")
    assert str(error) == "there is no stage 'botom' in dvc.yaml. Did you mean 'bottom'?"


def test_a_recipe_is_applied_before_the_plan_is_made(toy, run_flow, monkeypatch):
    from flows import pipeline

    toy(DIAMOND, {"top": 1, "left": 1})
    monkeypatch.setattr(pipeline, "apply_recipe", lambda name: Path("params.yaml").write_text("{top: 2, left: 1}"))
    run_flow(recipe="small", until="top")
    assert yaml.safe_load(Path("dvc.lock").read_text())["stages"]["top"]["params"] == {"params.yaml": {"top": 2}}


def test_a_recipe_that_does_not_exist_is_one_line(toy, root, run_flow, monkeypatch):
    toy(DIAMOND, {"top": 1, "left": 1})
    monkeypatch.setenv("PYTHONPATH", str(root))
    _, error = run_flow(recipe="nonesuch")
    assert str(error).startswith("recipe 'nonesuch': ")
    assert "\n" not in str(error)


def test_ctrl_c_stops_the_stages_and_leaves_no_process(toy):
    from flows.pipeline import pipeline

    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    toy({"slow": {"cmd": "python sleep.py", "outs": ["s"]}}, scripts={"sleep.py": code})

    def press() -> None:
        deadline = time.monotonic() + 120  # of a flow that fails before it starts the stage
        while not (Path("pid").exists() and Path("pid").read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts deaf to it
    presser.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            pipeline()
    finally:
        signal.signal(signal.SIGINT, before)
    presser.join()
    assert not psutil.pid_exists(int(Path("pid").read_text()))


def test_a_run_ends_with_its_figures_the_report_and_what_to_do_next(toy, run_flow, root, capsys, monkeypatch):
    import httpx
    from prefect.settings import PREFECT_API_URL

    from flows.pipeline import ARTIFACT_KEY

    paths = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))["paths"]
    metrics = json.dumps({"test": {"mAP": 0.96604, "OF1": 0.5, "CF1": None, "OP": 0.1}})
    toy(
        {
            "evaluate": {"cmd": f"echo '{metrics}' > {paths['metrics']}", "outs": [paths["metrics"]]},
            "report": copy_stage(paths["report"], paths["metrics"]),
        }
    )
    Path("data/reports").mkdir(parents=True)
    Path("params.yaml").write_text((root / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    _, error = run_flow()
    assert error is None
    shown = capsys.readouterr().out.splitlines()
    assert "result  mAP 0.9660  OF1 0.5000" in shown
    assert f"report  {paths['report']}" in shown
    assert any("python -m flows review" in line for line in shown)
    assert all(len(line) <= 80 for line in shown)
    answer = httpx.get(f"{PREFECT_API_URL.value()}/artifacts/{ARTIFACT_KEY}/latest").raise_for_status()
    assert "mAP 0.9660, OF1 0.5000" in answer.json()["description"]
    assert paths["report"] in answer.json()["description"]
    assert "](http://127.0.0.1:9/#/experiments" in answer.json()["description"]


def test_a_run_whose_evaluation_failed_shows_no_older_figures(toy, run_flow, capsys):
    toy({"evaluate": {"cmd": "exit 1", "outs": ["m"]}, "report": copy_stage("r", "m")})
    run_flow()
    assert "result" not in capsys.readouterr().out


def test_a_flow_run_is_named_by_its_minute(toy, run_flow, monkeypatch):
    from flows import pipeline as module

    names = []
    report = module.report
    monkeypatch.setattr(module, "report", lambda results: (names.append(module.flow_run.name), report(results)))
    toy(DIAMOND, {"top": 1, "left": 1})
    run_flow(until="top")
    assert re.fullmatch(r"(\w{7}\+? )?\d{4}-\d\d-\d\d \d\d:\d\d", names[0])
