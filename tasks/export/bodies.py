"""Images out of the bodies of requests: of bounded size each and together, and none slower than a least rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message

CLOSE = {"Connection": "close"}
"""What is still to come of a body that was refused is not waited for."""


@dataclass(frozen=True)
class BodyLimits:
    """max_body_bytes, max_files: of a request.  max_bytes_open: of all bodies in memory.

    grace_s, min_bytes_per_s: a body may take grace_s, and a second more for each min_bytes_per_s of it that have come.
    """

    max_body_bytes: int = 32 * 2**20
    max_files: int = 64
    max_bytes_open: int = 2**30
    grace_s: float = 5.0
    min_bytes_per_s: int = 16_000


class Bodies:
    """The bodies in memory at present."""

    def __init__(self, limits: BodyLimits) -> None:
        self.limits = limits
        self.num_bytes = 0

    @asynccontextmanager
    async def images(self, request: Request) -> AsyncIterator[list[tuple[str, bytes]]]:
        """(name, bytes) of each image in the body, counted as in memory until the block ends. Raises HTTPException."""
        body = _Body(self, request.receive)
        try:
            yield await self._received(request, body)
        finally:
            self.num_bytes -= body.num_bytes

    async def _received(self, request: Request, body: _Body) -> list[tuple[str, bytes]]:
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self.limits.max_body_bytes:
            raise body.too_large()
        request = Request(request.scope, body.receive)
        try:
            if not request.headers.get("content-type", "").startswith("multipart/form-data"):
                images = [("", await request.body())]
            else:
                images = await self._files(request)
        except (ClientDisconnect, ValueError) as error:
            raise HTTPException(400, "the body broke off, or is not what its content-type says", CLOSE) from error
        if not any(data for _, data in images):
            raise HTTPException(400, "no image: send one as the body, or several as multipart/form-data")
        return images

    async def _files(self, request: Request) -> list[tuple[str, bytes]]:
        most = self.limits.max_files
        async with request.form(max_files=most, max_fields=most) as form:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            return [(file.filename or "", await file.read()) for file in files]


class _Body:
    """One body as it comes in. Chunks declare no length, so it is counted."""

    def __init__(self, bodies: Bodies, receive: Callable) -> None:
        self.bodies, self._receive = bodies, receive
        self.num_bytes, self.begin = 0, time.monotonic()

    async def receive(self) -> Message:
        limits = self.bodies.limits
        left_s = self.begin + limits.grace_s + self.num_bytes / limits.min_bytes_per_s - time.monotonic()
        try:
            async with asyncio.timeout(max(left_s, 0)):
                message = await self._receive()
        except TimeoutError as error:
            floor = f"{limits.min_bytes_per_s:,} bytes a second"
            raise HTTPException(408, f"the body came more slowly than {floor}", CLOSE) from error
        num_bytes = len(message.get("body", b""))
        self.num_bytes += num_bytes
        self.bodies.num_bytes += num_bytes
        if self.num_bytes > limits.max_body_bytes:
            raise self.too_large()
        if self.bodies.num_bytes > limits.max_bytes_open:
            raise HTTPException(503, "too many requests at once", CLOSE | {"Retry-After": "1"})
        return message

    def too_large(self) -> HTTPException:
        return HTTPException(413, f"more than {self.bodies.limits.max_body_bytes:,} bytes", CLOSE)
