"""The App in the browser, on this machine's loopback."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path

from tasks.core.errors import ReviewError
from tasks.review.screen.connection import at_home, first_sentence, load_dataset

ADDRESS = "127.0.0.1"
FIRST_VIEW = "01-undecided"
"""FiftyOne's address of the saved view that the screen opens on."""


def open_app(*, name: str, port: int, folder: Path, browser: bool, announce: Callable[[str], None]) -> None:
    """Serve the App on this machine's loopback until Ctrl-C. Raises ReviewError when it does not start.

    announce: told the address as soon as the App answers.
    """
    refuse_taken_port(port)
    dataset = load_dataset(name, folder)
    url = f"http://{ADDRESS}:{port}/datasets/{dataset.slug}?view={FIRST_VIEW}"
    with at_home(folder.resolve()):
        from fiftyone.core.service import ServerService

        try:
            # Not fo.launch_app: its session joins when it likes, and then takes the view from every open page.
            server = ServerService(port, ADDRESS, do_not_track=True)
        except Exception as error:  # its errors have no root of their own
            raise ReviewError(f"review: the App did not start ({first_sentence(error)}). Try again.") from error
    announce(url)
    if browser:
        webbrowser.open(url)
    try:
        code = server.wait()
    finally:
        server.stop()
    raise ReviewError(f"review: FiftyOne's server ended by itself (exit code {code}). Open the screen again.")


def refuse_taken_port(port: int) -> None:
    """Raises ReviewError when something listens there: FiftyOne would silently attach to it, or wait in vain."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise ReviewError(
                f"review: port {port} cannot be used ({error.strerror}); perhaps the App is open already at "
                f"http://{ADDRESS}:{port}. Close what uses it, or set review.port in params.yaml."
            ) from error
