from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from tasks.core.errors import ServiceError
from tasks.export.bodies import BodyLimits
from tasks.export.runtime import Predictor, predict_files
from tasks.export.service import Limits, create_app, serve
from tasks.images.stored_pixels import stored_pixels
from tests.export import toy
from tests.images import pictures

JPEG = pictures.encode(pictures.scene(90, 70), "JPEG")
SMALL = Limits(BodyLimits(max_body_bytes=60_000, max_files=4), max_pixels=100_000)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toy.exported(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def client(model):
    with TestClient(create_app(Predictor(model), read=stored_pixels, limits=SMALL)) as client:
        yield client


def refusal(response) -> tuple[int, str]:
    body = response.json()
    return response.status_code, body["detail"] if "detail" in body else body["predictions"][0]["error"]


def test_an_image_as_the_body_gets_the_labels_of_the_command(client, model, tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (expected,) = predict_files(model, [tmp_path / "a.jpg"], read=stored_pixels)
    response = client.post("/predict", content=JPEG, headers={"content-type": "image/jpeg"})
    assert response.status_code == 200
    assert response.json() == {"predictions": [{"name": "", "labels": expected["labels"]}]}


def test_several_files_get_an_entry_each_in_order_and_a_bad_one_does_not_disturb_the_rest(client):
    files = [("images", (name, data)) for name, data in [("a.jpg", JPEG), ("b.jpg", JPEG[:500]), ("ü.jpg", JPEG)]]
    response = client.post("/predict", files=files)
    assert response.status_code == 200
    first, second, third = response.json()["predictions"]
    assert first["name"] == "a.jpg"
    assert (second["name"], second["status"]) == ("b.jpg", 422)
    assert third == {**first, "name": "ü.jpg"}


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "no image"),
        (b"<html>", 415, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "not an image"),
        (JPEG[: len(JPEG) // 2], 422, "truncated"),
        (pictures.huge_header(), 413, "30000 x 30000 px"),
        (pictures.encode(pictures.scene(400, 300), "JPEG"), 413, "at most 100,000 px"),
        (pictures.encode(pictures.scene(70_000, 1)), 413, "65,535 a side"),
        (b"\xff" * 60_001, 413, "more than 60,000 bytes"),
    ],
    ids=["empty", "html", "postscript", "truncated", "bomb", "too many pixels", "too long a side", "too many bytes"],
)
def test_what_is_not_scored_gets_a_4xx_that_says_why(client, body, status, text):
    refused_with, detail = refusal(client.post("/predict", content=body))
    assert refused_with == status
    assert text in detail


def test_a_body_sent_in_chunks_is_cut_off_at_the_limit_too(client):
    sent = []

    def chunks():
        for _ in range(100):
            sent.append(b"x" * 1000)
            yield sent[-1]

    assert refusal(client.post("/predict", content=chunks())) == (413, "more than 60,000 bytes")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n\r\n"),  # no boundary
        ("multipart/form-data; boundary=x", b"no boundary in here"),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken header\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\nv\r\n--x--\r\n'),
    ],
)
def test_a_form_that_cannot_be_parsed_or_holds_no_file_is_a_400(client, content_type, body):
    assert client.post("/predict", content=body, headers={"content-type": content_type}).status_code == 400


def test_more_files_than_allowed_are_refused(client):
    response = client.post("/predict", files=[("images", ("a.jpg", b"x"))] * 5)
    assert refusal(response)[0] in (400, 413)
    assert "Too many files" in refusal(response)[1]


def test_more_requests_than_may_wait_get_503_and_are_told_to_try_again(model):
    with TestClient(create_app(Predictor(model), read=stored_pixels, limits=Limits(max_requests=0))) as busy:
        response = busy.post("/predict", content=JPEG)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


def test_requests_at_the_same_time_are_all_answered_and_counted(model):
    with TestClient(create_app(Predictor(model), read=stored_pixels)) as client, ThreadPoolExecutor(8) as pool:
        responses = [pool.submit(client.post, "/predict", content=JPEG) for _ in range(24)]
        bodies = [response.result().json() for response in responses]
        text = client.get("/metrics").text
    assert all(body == bodies[0] for body in bodies)
    assert "tagwright_scored_images_total 24\n" in text
    assert 'tagwright_responses_total{status="200"} 24\n' in text
    assert "tagwright_requests_open 0\n" in text


def test_labels_say_what_each_column_is(client):
    labels = client.get("/labels").json()
    assert [entry["label"] for entry in labels] == toy.LABELS
    assert labels[0] == {"label": "cat", "display_name": "Cat", "threshold": 0.5, "implies": ["animal"]}
    assert labels[4]["threshold"] is None


def test_health_names_the_model_that_answers(client):
    assert client.get("/health").json() == {"status": "ok", "num_labels": 5, "provenance": toy.manifest().provenance}


def test_bodies_take_no_more_memory_together_than_allowed_and_give_it_back(model):
    limits = Limits(BodyLimits(max_bytes_open=len(JPEG) + 100))
    with TestClient(create_app(Predictor(model), read=stored_pixels, limits=limits)) as client:
        statuses = [client.post("/predict", content=body).status_code for body in (JPEG, JPEG + b"x" * 200, JPEG)]
    assert statuses == [200, 503, 200]


def test_with_a_key_only_its_owners_are_answered_and_health_needs_none(model):
    with TestClient(create_app(Predictor(model), read=stored_pixels, api_key="some key")) as client:
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer söme key".encode()}):
            assert client.post("/predict", content=JPEG, headers=header).status_code == 401
            assert client.get("/labels", headers=header).status_code == 401
        key = {"authorization": "Bearer some key"}
        assert client.post("/predict", content=JPEG, headers=key).status_code == 200
        assert client.get("/health").status_code == 200


def test_nothing_is_answered_before_a_first_prediction(model):
    predictor = Predictor(model)
    scored = []
    score, predictor._score = predictor._score, lambda images: scored.append(len(images)) or score(images)
    with TestClient(create_app(predictor, read=stored_pixels)) as client:
        assert scored == [1]
        assert client.get("/health").json()["status"] == "ok"
        assert "tagwright_scored_images_total 0\n" in client.get("/metrics").text


def test_metrics_count_refusals_by_status(client):
    client.post("/predict", content=b"<html>")
    assert 'tagwright_refused_images_total{status="415"}' in client.get("/metrics").text


def test_openapi_describes_both_kinds_of_body(client):
    body = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert sorted(body) == ["image/*", "multipart/form-data"]


def test_sigterm_lets_the_request_under_way_finish(model):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys, time\n"
        "from tasks.export.service import serve\n"
        "from tasks.images.stored_pixels import stored_pixels\n"
        "def read(*given):\n    print('reading', flush=True)\n    time.sleep(1)\n    return stored_pixels(*given)\n"
        "serve(sys.argv[1], read=read, port=int(sys.argv[2]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, model, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        wait_until_healthy(port, process)
        with ThreadPoolExecutor(1) as pool:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", JPEG)
            answer = pool.submit(urllib.request.urlopen, request, timeout=30)
            assert process.stdout.readline() == b"reading\n"
            os.kill(process.pid, signal.SIGTERM)
            assert answer.result().status == 200
        assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()


def wait_until_healthy(port: int, process: subprocess.Popen) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        assert process.poll() is None, process.stderr.read().decode()
        try:
            opener.open(f"http://127.0.0.1:{port}/health", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the service did not come up")


@pytest.mark.parametrize(("host", "why"), [("127.0.0.1", "in use"), ("no.such.host.invalid", ".")])
def test_an_address_that_cannot_be_used_is_one_line(model, host, why):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ServiceError, match=rf"{host}:\d+ cannot be used \(.*{why}.*--host or --port"),
    ):
        serve(model, read=stored_pixels, host=host, port=taken.getsockname()[1])
