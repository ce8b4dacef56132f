"""The exported model over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.export.service import serve
from tasks.images.stored_pixels import stored_pixels


def command(
    model: Annotated[Path, typer.Argument(help="exported ONNX file")],
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """The exported model over HTTP; loopback unless --host says otherwise.

    Example: python -m tasks serve data/models/model.onnx --port 8000
    """
    serve(model, read=stored_pixels, host=host, port=port)
