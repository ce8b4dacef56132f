"""Web addresses: what may be shown and stored of one, and where a redirect may lead."""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
import urllib.parse
import urllib.request
from http.client import HTTPMessage
from typing import IO

from tasks.core.errors import SourceError

SECRET = re.compile(r"sig|token|secret|passw|credential|auth|key|expires|policy", re.IGNORECASE)
"""Names of query parameters whose values open what others may not: of signed addresses above all."""
HIDDEN = "***"


def shown(url: str) -> str:
    """The address without its user and password, and with the values of secret query parameters replaced."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:  # no address
        return re.sub("//[^/]*@", "//", url)
    query = "&".join(_shown_parameter(parameter) for parameter in parts.query.split("&"))
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query))


def is_web(url: str) -> bool:
    """Whether it is an address of http or https."""
    try:
        return urllib.parse.urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False


def _shown_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}={HIDDEN}" if equals and SECRET.search(name) else parameter


def request_for(url: str, headers: dict[str, str]) -> urllib.request.Request:
    """A request whose user and password go to the address's own host in a header, and nowhere else."""
    parts = urllib.parse.urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)), headers=headers)
    if login:
        basic = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    return request


class PublicRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) and public addresses, or to the host that was asked; refuses others."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        where = f"{shown(req.full_url)}: refused: it redirects to {shown(newurl)}"
        if not is_web(newurl):
            raise SourceError(f"{where}, not an http or https address.")
        target = urllib.parse.urlsplit(newurl)
        asked = urllib.parse.urlsplit(req.full_url).netloc
        if target.netloc != asked and not is_public(target.hostname or ""):
            raise SourceError(f"{where}, which is no public address. If you trust it, name it itself.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def is_public(host: str) -> bool:
    """Whether every address that the name stands for is one of the public internet."""
    try:
        resolved = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return bool(resolved) and all(
        ipaddress.ip_address(str(address).partition("%")[0]).is_global for address in resolved
    )


opener = urllib.request.build_opener(PublicRedirects())
