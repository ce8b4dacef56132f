"""`python -m tasks serve MODEL.onnx`: the exported model over HTTP.

    POST /predict   an image as the body, or several as multipart/form-data -> {"predictions": [entry, …]}
    GET  /labels    the labels, in the order of the network's columns
    GET  /health    what is served
    GET  /metrics   counters in Prometheus' text format
    GET  /openapi.json

An entry is {"name", "labels": {label: score}} or {"name", "error", "status"}. One bad image among several does not
disturb the rest; when none could be used, the response has the status of the first.

    400 no image in the request, or a body that cannot be parsed    415 not an image of a known format
    401 the API key is missing or wrong                             422 truncated or damaged
    408 the body came too slowly                                    503 too many requests at once: try again
    413 more bytes, files or pixels than allowed

Nothing is answered before a first prediction was made. With TAGWRIGHT_API_KEY set, whoever asks for anything but
/health must send `Authorization: Bearer KEY`. bodies.py and connections.py say how slow and how many clients may be.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import logging
import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from PIL import Image, UnidentifiedImageError

from tasks.core import environment
from tasks.core.image_header import claimed_size
from tasks.core.listening import listening
from tasks.export.batching import MicroBatcher
from tasks.export.bodies import CLOSE, Bodies, BodyLimits
from tasks.export.runtime import Predictor, Read, Seen, reason

if TYPE_CHECKING:
    import uvicorn

log = logging.getLogger(__name__)

Image.init()
FORMATS = tuple(name for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if name in Image.OPEN)
"""What is decoded for a stranger. Pillow knows more: EPS starts an interpreter, others are rarely looked at."""


@dataclass(frozen=True)
class Limits:
    """bodies: see bodies.py.  max_pixels: of one image, width x height.  max_side_px: of it.

    max_requests: answered at once; beyond it 503.  The others: see connections.py.
    """

    bodies: BodyLimits = field(default_factory=BodyLimits)
    max_pixels: int = 50_000_000
    max_side_px: int = 65_535  # JPEG's own; resampling needs 16 bytes for each px of a side
    max_requests: int = 1024
    max_connections: int = 900  # below the 1,024 files that a process may often open
    header_timeout_s: float = 5.0
    answer_timeout_s: float = 30.0


LOOPBACK = ("127.0.0.1", "::1", "localhost")


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


def create_app(predictor: Predictor, *, read: Read, limits: Limits = Limits(), api_key: str = "") -> FastAPI:
    """The application; see the module docstring.

    read: tasks.images.stored_pixels.stored_pixels.  api_key: '' = none is asked for.
    """
    service = _Service(predictor, read, limits)
    app = FastAPI(title="Tagwright", lifespan=service.lifespan, docs_url=None, redoc_url=None)
    with_key = [Depends(partial(_check_key, api_key))] if api_key else []
    app.post("/predict", response_model=None, openapi_extra=REQUEST_BODY, dependencies=with_key)(service.predict)
    app.get("/labels", dependencies=with_key)(service.labels)
    app.get("/health")(service.health)
    app.get("/metrics", response_class=PlainTextResponse, dependencies=with_key)(service.metrics)
    return app


async def _check_key(api_key: str, request: Request) -> None:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), api_key.encode()):
        raise HTTPException(401, "send the API key: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"} | CLOSE)


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
        self.bodies = Bodies(limits.bodies)
        self.decoders = ThreadPoolExecutor(os.cpu_count(), "decode")
        self.num_requests = 0
        self.responses: Counter[int] = Counter()
        self.refusals: Counter[int] = Counter()

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with self.batcher:
            await self.batcher(np.zeros((*self.predictor.manifest.preprocessing.image_px, 3), np.uint8))
            self.batcher.num_batches = self.batcher.num_images = 0
            yield
        self.decoders.shutdown()

    async def predict(self, request: Request) -> JSONResponse:
        """Labels of one image (the body) or of several (multipart/form-data)."""
        if self.num_requests >= self.limits.max_requests:
            self.responses[503] += 1
            raise HTTPException(503, "too many requests at once", {"Retry-After": "1"} | CLOSE)
        self.num_requests += 1
        try:
            async with self.bodies.images(request) as images:
                seen = await asyncio.gather(*(self._seen(data) for _, data in images))
            entries = await asyncio.gather(*map(self._entry, (name for name, _ in images), seen))
        except HTTPException as error:
            self.responses[error.status_code] += 1
            raise
        finally:
            self.num_requests -= 1
        status = 200 if any("labels" in entry for entry in entries) else entries[0]["status"]
        self.responses[status] += 1
        return JSONResponse({"predictions": entries}, status)

    async def _seen(self, data: bytes) -> Seen | Refused:
        return await asyncio.get_running_loop().run_in_executor(self.decoders, self._decode, data)

    def _decode(self, data: bytes) -> Seen | Refused:
        try:
            check_header(data, self.limits)
            return self.predictor.look(data, self.read)
        except Refused as refused:
            return refused
        except Exception as error:  # the header was that of an image: its body is not
            return Refused(422, reason(error))

    async def _entry(self, name: str, seen: Seen | Refused) -> dict[str, Any]:
        if isinstance(seen, Refused):
            self.refusals[seen.status] += 1
            return {"name": name, "error": str(seen), "status": seen.status}
        scores_C, decisions_C = await self.batcher(seen.pixels_HWC)
        return {"name": name, "labels": self.predictor.decided(scores_C, decisions_C, seen.detected_C)}

    def labels(self) -> list[dict[str, Any]]:
        """Id, display name, threshold (null: never predicted) and implied labels of each column."""
        manifest, thresholds = self.predictor.manifest, self.predictor.thresholds_C.tolist()
        return [
            {
                "label": label,
                "display_name": manifest.display_names[c],
                "threshold": thresholds[c] if math.isfinite(thresholds[c]) else None,
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


def serve(model_path: Path, *, read: Read, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first, for at most 30 s.

    Raises ModelError when the model cannot be opened, ServiceError when the address cannot be used.
    """
    api_key = environment.api_key()
    if not api_key and host not in LOOPBACK:
        log.warning("whoever reaches %s may ask: set TAGWRIGHT_API_KEY, and put TLS in front", host)
    limits = Limits()
    app = create_app(Predictor(model_path), read=read, limits=limits, api_key=api_key)
    with listening(host, port) as listener:
        server_of(app, limits).run(sockets=[listener])


def server_of(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """uvicorn with our limits on connections."""
    import uvicorn

    from tasks.export.connections import GuardedProtocol

    protocol = partial(
        GuardedProtocol,
        max_connections=limits.max_connections,
        header_timeout_s=limits.header_timeout_s,
        answer_timeout_s=limits.answer_timeout_s,
    )
    options = {"log_level": "info", "access_log": False, "server_header": False, "timeout_graceful_shutdown": 30}
    return uvicorn.Server(uvicorn.Config(app, http=protocol, **options))
