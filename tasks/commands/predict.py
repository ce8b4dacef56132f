"""Labels of image files by an exported model, without torch: one line of JSON an image."""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from tasks.core.errors import SourceError, TagwrightError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.export.runtime import Read, predict_files
from tasks.images.stored_pixels import stored_pixels

with contextlib.suppress(ModuleNotFoundError):  # a machine that only predicts calls `main`
    import typer

logger = logging.getLogger(__name__)


def predict(
    model_path: Path, arguments: Sequence[str], *, read: Read, stdin: Iterable[str], write: Callable[[str], None]
) -> None:
    """Write one JSON line an image, in order, and log the throughput; what cannot be read gets a line with its error.

    arguments: see `list_images`.  stdin: its lines, where an argument is "-".  read: see `predict_files`.
    Raises ModelError when the model cannot be opened, SourceError when there is nothing to score.
    """
    entries = predict_files(model_path, list_images(arguments, stdin), read=read)
    start, num_images, num_failed = time.perf_counter(), 0, 0
    for entry in entries:
        num_images += 1
        num_failed += "error" in entry
        write(json.dumps(entry, ensure_ascii=False))
    seconds = time.perf_counter() - start
    if not num_images:
        raise SourceError("predict: no images. Name files, folders or globs, or pipe paths to `-`.")
    failed = f", {num_failed} could not be read" if num_failed else ""
    logger.info("%d images in %.1f s (%.0f/s)%s", num_images, seconds, num_images / seconds, failed)


def main(arguments: Sequence[str], *, read: Read) -> int:
    """`predict` without the other commands, which need more installed: 0, 1 with one line for an error, 2 for usage."""
    logging.basicConfig(level="INFO", format="%(levelname).1s %(name)s: %(message)s")
    if len(arguments) < 2 or arguments[0].startswith("-"):
        print(
            "usage: python -m tasks predict MODEL.onnx PATH…  (files, folders, globs, or - for stdin)", file=sys.stderr
        )
        return 2
    try:
        predict(Path(arguments[0]), arguments[1:], read=read, stdin=sys.stdin, write=print)
    except TagwrightError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def list_images(arguments: Sequence[str], stdin: Iterable[str] = ()) -> Iterator[str]:
    """Paths meant by files, folders (searched to the bottom), globs (`**` too) and "-" (a path a line of stdin).

    Raises SourceError for a folder or glob without images.
    """
    for argument in arguments:
        if argument == "-":
            yield from (line.rstrip("\r\n") for line in stdin if line.strip())
        elif Path(argument).is_dir():
            yield from _images(map(str, Path(argument).rglob("*")), otherwise=f"{argument}: no images in it")
        elif glob.has_magic(argument) and not Path(argument).exists():
            yield from _images(glob.iglob(argument, recursive=True), otherwise=f"{argument}: matches no image")
        else:
            yield argument


def _images(paths: Iterable[str], *, otherwise: str) -> list[str]:
    images = sorted(path for path in paths if Path(path).suffix.lower() in IMAGE_SUFFIXES and Path(path).is_file())
    if not images:
        raise SourceError(f"{otherwise} ({', '.join(IMAGE_SUFFIXES)}).")
    return images


def command(
    model: Annotated[Path | None, typer.Argument(help="exported ONNX file")] = None,
    paths: Annotated[list[str] | None, typer.Argument(help="files, folders, globs, or - for paths on stdin")] = None,
) -> None:
    """Labels of image files by an exported model, without torch; without arguments, the stage.

    Example: python -m tasks predict data/models/model.onnx pictures/
    """
    if model is None:
        from tasks.stages import run_stage

        raise typer.Exit(run_stage("predict"))
    if not paths:
        raise typer.BadParameter("name images, folders or globs, or - to read paths from stdin", param_hint="PATHS")
    predict(model, paths, read=stored_pixels, stdin=sys.stdin, write=typer.echo)
