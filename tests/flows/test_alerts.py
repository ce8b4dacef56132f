"""A failed run, a refused result and a waiting review reach the webhook; a webhook that is down disturbs nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from prefect.states import Crashed, Failed

from flows import alerts
from flows.pipeline import pipeline


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
