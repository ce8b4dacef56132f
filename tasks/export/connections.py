"""Connections of strangers to the service: at most so many, and none that says nothing for long.

uvicorn waits for a header, for the rest of a body that was refused, and for a reader of its answer, without end.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which drops who is too slow.

    max_connections: of the process; where one more comes, the one that has waited longest for its header makes room.
    header_timeout_s: from the first byte of a header, or from the opening of the connection, to its end; the rest of a
    body that was answered already counts as that.  answer_timeout_s: for an answer to be taken off.
    """

    def __init__(
        self, *args: Any, max_connections: int, header_timeout_s: float, answer_timeout_s: float, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.max_connections, self.header_timeout_s = max_connections, header_timeout_s
        self.answer_timeout_s = answer_timeout_s
        self.header_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self.max_connections:
            waiting = [c for c in self.connections if c.header_deadline is not None]
            min(waiting, key=lambda c: c.header_deadline.when()).transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is not h11.IDLE:  # the rest of a body that nobody reads
            self._watch()
        self.loop.call_later(self.answer_timeout_s, self._drop_unread_answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """A deadline where a header is awaited, none elsewhere: the app sees to the pace of bodies."""
        answered = self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE
        if self.conn.their_state is not h11.IDLE and not answered:
            self._forget_deadline()
        elif self.header_deadline is None:
            self.header_deadline = self.loop.call_later(self.header_timeout_s, self.transport.abort)

    def _forget_deadline(self) -> None:
        if self.header_deadline is not None:
            self.header_deadline.cancel()
            self.header_deadline = None

    def _drop_unread_answer(self) -> None:
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.transport.abort()
