"""A web server on loopback that misbehaves on request."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Script:
    """What the server has and how it behaves; per path, counted down at each request.

    bodies: path -> content.  errors: path -> status codes to answer first.  cut_after: path -> lengths (bytes of this
    reply) after which the connection is dropped, one reply each.  headers: extra headers for all replies.
    """

    bodies: dict[str, bytes] = field(default_factory=dict)
    errors: dict[str, list[int]] = field(default_factory=dict)
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    etag: bool = True
    ranges: bool = True
    range_shift: int = 0  # answer a Range request from this many bytes further on, and say so
    requests: Counter[str] = field(default_factory=Counter)
    seen: list[dict[str, str]] = field(default_factory=list)  # headers of each request
    url: str = ""


@contextmanager
def serving(script: Script) -> Iterator[Script]:
    """Serve the script on a free port of loopback; `script.url` is its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            script.requests[self.path] += 1
            script.seen.append(dict(self.headers))
            if script.errors.get(self.path):
                return self._reply(script.errors[self.path].pop(0), b"sorry", {})
            if self.path not in script.bodies:
                return self._reply(404, b"nothing here", {})
            body = script.bodies[self.path]
            etag = f'"{hashlib.md5(body).hexdigest()}"'
            headers = {"ETag": etag} if script.etag else {}
            byte_range = self.headers.get("Range", "")
            if byte_range and script.ranges and self.headers.get("If-Range", etag) == etag:
                start = int(byte_range.removeprefix("bytes=").split("-")[0]) + script.range_shift
                if start >= len(body):
                    return self._reply(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                return self._reply(206, body[start:], headers)
            return self._reply(200, body, headers)

        def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            lengths = script.cut_after.get(self.path) if status in (200, 206) else None
            self.send_response(status)
            for name, value in {**script.headers, **headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: lengths.pop(0)] if lengths else body)
            if lengths is not None:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
