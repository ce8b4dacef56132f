"""One delivery that somebody spoiled, and ways to spoil one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """A delivery spoiled by `spoil(root)`; read with its own options and `options` over them.

    says: pieces that the one line of the SourceError has to hold; none: the delivery is read, nothing lost.
    """

    name: str
    spoil: Callable[[Path], object] = lambda root: None
    says: tuple[str, ...] = ()
    options: dict = field(default_factory=dict)


def text(file: str, content: str | bytes, encoding: str = "utf-8") -> Callable[[Path], object]:
    """Put `content` in place of a file, byte for byte."""

    def spoil(root: Path) -> None:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content if isinstance(content, bytes) else content.encode(encoding))

    return spoil


def truncated(file: str) -> Callable[[Path], object]:
    """The first half of a file."""

    def spoil(root: Path) -> None:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: len(content) // 2])

    return spoil


def remove(file: str) -> Callable[[Path], object]:
    return lambda root: (root / file).unlink()
