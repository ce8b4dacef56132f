"""A failed run, a refused result and a waiting review reach the webhook; a webhook that is down disturbs nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed, Failed, State, exception_to_failed_state

from flows import alerts
from flows.pipeline import pipeline, raise_if_failed, raise_if_refused
from flows.repro import StageResult
from tasks.core.errors import GateError, PipelineError
from tasks.params import load_params


@pytest.fixture
def received(monkeypatch) -> Iterator[list[dict]]:
    """What a local webhook was sent."""
    bodies: list[dict] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Webhook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("TAGWRIGHT_WEBHOOK", f"http://127.0.0.1:{server.server_port}/secret")
    yield bodies
    server.shutdown()
    thread.join()
    server.server_close()


RUN = SimpleNamespace(name="nightly 12")


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            Failed(
                message="Flow run encountered an exception: PipelineError: 1 of 20 stages failed. finetune: no GPU."
            ),
            "tagwright, run nightly 12: failed. PipelineError: 1 of 20 stages failed. finetune: no GPU.",
        ),
        (
            Failed(message="Flow run encountered an exception: GateError: mAP fell from 0.97 to 0.91"),
            "tagwright, run nightly 12: failed. GateError: mAP fell from 0.97 to 0.91",
        ),
        (Crashed(message="Execution was aborted."), "tagwright, run nightly 12: crashed. Execution was aborted."),
    ],
)
def test_a_run_that_ends_badly_is_told_with_its_cause(received, state, told):
    alerts.tell_of_failure(pipeline, RUN, state)
    assert received == [{"text": told}]


def test_the_pipeline_tells_when_it_fails_and_when_it_crashes():
    assert pipeline.on_failure_hooks == [alerts.tell_of_failure]
    assert pipeline.on_crashed_hooks == [alerts.tell_of_failure]


def ended_with(error: Exception) -> State:
    """The state that Prefect makes of a flow run's exception."""
    return asyncio.run(exception_to_failed_state(error, message="Flow run encountered an exception:"))


def test_a_stage_that_failed_reaches_the_webhook_with_its_cause_and_what_to_type(received):
    results = [StageResult("bad", "failed", "error: raw.json: truncated"), StageResult("last", "skipped", "needs bad")]
    with pytest.raises(PipelineError) as raised:
        raise_if_failed(results)
    alerts.tell_of_failure(pipeline, RUN, ended_with(raised.value))
    (body,) = received
    assert body["text"].startswith("tagwright, run nightly 12: failed. ")
    assert "1 of 2 stages failed. bad: error: raw.json: truncated. 1 that need them did not run (last)" in body["text"]
    assert body["text"].endswith("Run it by hand: python -m dvc repro --single-item bad")


def test_a_result_that_the_gate_refused_reaches_the_webhook_with_the_reason(received, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((root / "params.yaml").read_bytes())
    gate = load_params().paths.gate
    gate.parent.mkdir(parents=True)
    gate.write_text(json.dumps({"passed": False, "why": "gate: mAP is worse by 0.1000"}))
    with pytest.raises(GateError) as raised:
        raise_if_refused([StageResult("gate", "ran")])
    alerts.tell_of_failure(pipeline, RUN, ended_with(raised.value))
    (body,) = received
    assert body["text"].startswith("tagwright, run nightly 12: failed. ")
    assert body["text"].endswith("gate: mAP is worse by 0.1000")


def test_a_review_that_pauses_reaches_the_webhook_with_how_to_go_on(received, monkeypatch):
    from flows import review

    monkeypatch.setattr(review, "pause_flow_run", lambda timeout: None)
    monkeypatch.setattr(review, "flow_run", SimpleNamespace(id="7d0c"))
    monkeypatch.setattr(review, "get_run_logger", lambda: logging.getLogger("test"))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        review.wait_for_the_person()
    (body,) = received
    waits = "questions wait for a person: python -m tasks review open; afterwards: prefect flow-run resume 7d0c"
    assert body["text"] == f"tagwright: {waits}"


def test_a_review_that_waits_is_told(received):
    alerts.tell_of_review("prefect flow-run resume 7")
    assert received == [{"text": "tagwright: questions wait for a person: prefect flow-run resume 7"}]


def test_without_a_webhook_nobody_is_told(monkeypatch):
    monkeypatch.delenv("TAGWRIGHT_WEBHOOK", raising=False)
    alerts.tell("nobody hears this")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/secret", "no address/secret", "ftp://x/secret"])
def test_a_webhook_that_is_down_is_a_warning_without_its_address(monkeypatch, caplog, address):
    monkeypatch.setenv("TAGWRIGHT_WEBHOOK", address)
    alerts.tell("the run failed")
    assert "did not take the message" in caplog.text
    assert "secret" not in caplog.text
