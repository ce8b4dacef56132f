"""`python -m tasks serve MODEL.onnx`: the exported model over HTTP.

    POST /predict   an image as the body, or several as multipart/form-data -> {"predictions": [entry, …]}
    GET  /labels    the labels, in the order of the network's columns
    GET  /health    what is served
    GET  /metrics   counters in Prometheus' text format
    GET  /openapi.json

An entry is {"name", "labels": {label: score}} or {"name", "error", "status"}. One bad image among several does not
disturb the rest; when none could be used, the response has the status of the first.

    400 no image in the request, or a body that cannot be parsed    415 not an image of a known format
    408 the body did not arrive in time                             422 truncated or damaged
    413 more bytes, files or pixels than allowed                    503 too many requests at once: try again
"""

from __future__ import annotations

import asyncio
import io
import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message

from tasks.core.image_header import claimed_size
from tasks.core.listening import listening
from tasks.export.batching import MicroBatcher
from tasks.export.runtime import Predictor, Read, reason

Image.init()
FORMATS = tuple(name for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if name in Image.OPEN)
"""What is decoded for a stranger. Pillow knows more: EPS starts an interpreter, others are rarely looked at."""


@dataclass(frozen=True)
class Limits:
    """max_body_bytes: of a request.  max_files: in it.  max_pixels: of one image, width x height.  max_side_px: of it.

    max_open: requests whose bodies are in memory at once; others wait their turn.  max_waiting: requests that may wait;
    beyond it 503.  body_timeout_s: for a body to arrive.
    """

    max_body_bytes: int = 32 * 2**20
    max_files: int = 64
    max_pixels: int = 50_000_000
    max_side_px: int = 65_535  # JPEG's own; resampling needs 16 bytes for each px of a side
    max_open: int = 32
    max_waiting: int = 1024
    body_timeout_s: float = 30.0


class Refused(Exception):
    """An image that is not scored; status: of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def check_header(data: bytes, limits: Limits) -> None:
    """Raise Refused unless the bytes begin like an image of a known format and size; decodes nothing."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except UnidentifiedImageError as error:
        raise Refused(415, f"not an image ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        width, height = claimed_size(data, FORMATS) or (0, 0)
        if not width:
            raise Refused(413, "decompression bomb") from error
    except Exception as error:  # Pillow's parsers raise whatever a broken header makes them stumble over
        raise Refused(422, "truncated or damaged") from error
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        allowed = f"{limits.max_pixels:,} px, {limits.max_side_px:,} a side"
        raise Refused(413, f"{width} x {height} px; at most {allowed} are accepted")


def create_app(predictor: Predictor, *, read: Read, limits: Limits = Limits()) -> FastAPI:
    """The application; see the module docstring.

    read: tasks.images.stored_pixels.stored_pixels.
    """
    service = _Service(predictor, read, limits)
    app = FastAPI(title="Tagwright", lifespan=service.lifespan, docs_url=None, redoc_url=None)
    app.post("/predict", response_model=None, openapi_extra=REQUEST_BODY)(service.predict)
    app.get("/labels")(service.labels)
    app.get("/health")(service.health)
    app.get("/metrics", response_class=PlainTextResponse)(service.metrics)
    return app


REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
        },
    }
}


class _Service:
    """The endpoints and what they share."""

    def __init__(self, predictor: Predictor, read: Read, limits: Limits) -> None:
        self.predictor, self.read, self.limits = predictor, read, limits
        self.batcher = MicroBatcher(predictor)
        self.slots = asyncio.Semaphore(limits.max_open)
        self.decoders = ThreadPoolExecutor(os.cpu_count(), "decode")
        self.num_requests = 0
        self.responses: Counter[int] = Counter()
        self.refusals: Counter[int] = Counter()

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with self.batcher:
            yield
        self.decoders.shutdown()

    async def predict(self, request: Request) -> JSONResponse:
        """Labels of one image (the body) or of several (multipart/form-data)."""
        if self.num_requests >= self.limits.max_open + self.limits.max_waiting:
            self.responses[503] += 1
            raise HTTPException(503, "too many requests at once", {"Retry-After": "1"})
        self.num_requests += 1
        try:
            async with self.slots:
                images = await self._receive(request)
                pixels = await asyncio.gather(*(self._pixels(data) for _, data in images))
            entries = await asyncio.gather(*map(self._entry, (name for name, _ in images), pixels))
        except HTTPException as error:
            self.responses[error.status_code] += 1
            raise
        finally:
            self.num_requests -= 1
        status = 200 if any("labels" in entry for entry in entries) else entries[0]["status"]
        self.responses[status] += 1
        return JSONResponse({"predictions": entries}, status)

    async def _receive(self, request: Request) -> list[tuple[str, bytes]]:
        """(name, bytes) of each image in the body. Raises HTTPException."""
        limit = self.limits.max_body_bytes
        too_large = HTTPException(413, f"more than {limit:,} bytes")
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise too_large
        request = Request(request.scope, _counted(request.receive, limit, too_large))  # chunks declare no length
        try:
            async with asyncio.timeout(self.limits.body_timeout_s):
                if not request.headers.get("content-type", "").startswith("multipart/form-data"):
                    images = [("", await request.body())]
                else:
                    images = await self._files(request)
        except TimeoutError as error:
            raise HTTPException(408, "the body did not arrive in time") from error
        except (ClientDisconnect, ValueError) as error:
            raise HTTPException(400, "the body broke off, or is not what its content-type says") from error
        if not any(data for _, data in images):
            raise HTTPException(400, "no image: send one as the body, or several as multipart/form-data")
        return images

    async def _files(self, request: Request) -> list[tuple[str, bytes]]:
        async with request.form(max_files=self.limits.max_files, max_fields=self.limits.max_files) as form:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            return [(file.filename or "", await file.read()) for file in files]

    async def _pixels(self, data: bytes) -> np.ndarray | Refused:
        return await asyncio.get_running_loop().run_in_executor(self.decoders, self._decode, data)

    def _decode(self, data: bytes) -> np.ndarray | Refused:
        try:
            check_header(data, self.limits)
            return self.predictor.network_pixels(data, self.read)
        except Refused as refused:
            return refused
        except Exception as error:  # the header was that of an image: its body is not
            return Refused(422, reason(error))

    async def _entry(self, name: str, pixels_HWC: np.ndarray | Refused) -> dict[str, Any]:
        if isinstance(pixels_HWC, Refused):
            self.refusals[pixels_HWC.status] += 1
            return {"name": name, "error": str(pixels_HWC), "status": pixels_HWC.status}
        return {"name": name, "labels": self.predictor.decided(*await self.batcher(pixels_HWC))}

    def labels(self) -> list[dict[str, Any]]:
        """Id, display name, threshold (null: never predicted) and implied labels of each column."""
        manifest = self.predictor.manifest
        return [
            {
                "label": label,
                "display_name": manifest.display_names[c],
                "threshold": manifest.thresholds[c] if math.isfinite(manifest.thresholds[c]) else None,
                "implies": [manifest.labels[ancestor] for child, ancestor in manifest.implications if child == c],
            }
            for c, label in enumerate(manifest.labels)
        ]

    def health(self) -> dict[str, Any]:
        """Which model answers."""
        manifest = self.predictor.manifest
        return {"status": "ok", "num_labels": len(manifest.labels), "provenance": dict(manifest.provenance)}

    def metrics(self) -> str:
        """Counters since the start, and the requests under way."""
        return "".join(
            _series(name, kind, text, samples)
            for name, kind, text, samples in [
                ("responses_total", "counter", "Responses of /predict.", _by_status(self.responses)),
                ("refused_images_total", "counter", "Images that were not scored.", _by_status(self.refusals)),
                ("scored_images_total", "counter", "Images that were scored.", [("", self.batcher.num_images)]),
                ("batches_total", "counter", "Passes of the network.", [("", self.batcher.num_batches)]),
                ("requests_open", "gauge", "Requests under way or waiting.", [("", self.num_requests)]),
            ]
        )


def _by_status(counts: Counter[int]) -> list[tuple[str, int]]:
    return [(f'{{status="{status}"}}', count) for status, count in sorted(counts.items())]


def _series(name: str, kind: str, text: str, samples: Sequence[tuple[str, int]]) -> str:
    lines = [f"# HELP tagwright_{name} {text}", f"# TYPE tagwright_{name} {kind}"]
    return "\n".join([*lines, *(f"tagwright_{name}{labels} {value}" for labels, value in samples)]) + "\n"


def _counted(receive: Callable, limit: int, too_large: HTTPException) -> Callable:
    """`receive` that raises once more than `limit` bytes of body have come."""
    num_bytes = 0

    async def counted() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > limit:
            raise too_large
        return message

    return counted


def serve(model_path: Path, *, read: Read, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first, for at most 30 s.

    Raises ModelError when the model cannot be opened, ServiceError when the address cannot be used.
    """
    import uvicorn

    app = create_app(Predictor(model_path), read=read)
    options = {"log_level": "info", "access_log": False, "server_header": False, "timeout_graceful_shutdown": 30}
    with listening(host, port) as listener:
        uvicorn.Server(uvicorn.Config(app, host=host, port=port, **options)).run(sockets=[listener])
