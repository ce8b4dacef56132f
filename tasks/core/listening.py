"""A socket to serve on, or one line that says why not."""

from __future__ import annotations

import socket

from tasks.core.errors import ServiceError


def listening(host: str, port: int) -> socket.socket:
    """A socket on the address: bound here, for uvicorn ends the process where it cannot. Raises ServiceError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = error.strerror or str(error)
        raise ServiceError(f"{host}:{port} cannot be used ({why}). Give another --host or --port.") from error
