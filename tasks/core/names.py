"""Names from strangers: labels, sources, reviewers, classes, files. Any Unicode is welcome, but a name is no path.

unfit(name)       why it may be no id; what becomes a part of a path, a column or a line must not lead elsewhere
printable(text)   on one line, without what a terminal obeys
short(name)       for a figure: printable, of bounded length
escaped(stream)   a terminal that never obeys what is written to it; colours alone pass
"""

from __future__ import annotations

import io
import re
from typing import TextIO

MOST_SHOWN = 60

OBEYED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""What a terminal obeys rather than shows, and halves of characters; lines and tabs are not among them."""
NOT_IN_AN_ID = re.compile(f"[{OBEYED}\t\n]")
COLOUR_OR_OBEYED = re.compile(f"(\x1b\\[[0-9;]*m)|[{OBEYED}]")


def unfit(name: str) -> str:
    """What is wrong with a name as an id; '' where nothing is."""
    if any(part in ("..", ".") for part in re.split(r"[/\\]", name)):
        return "leads to another folder"
    if match := NOT_IN_AN_ID.search(name):
        return f"holds the character U+{ord(match.group()):04X}, which a terminal obeys"
    return ""


def printable(text: str) -> str:
    """The text on one line, without what a terminal would obey: control characters and halves of characters."""
    joined = " ".join(text.split())
    return "".join(char if char.isprintable() else _escape(char) for char in joined)


def short(name: str) -> str:
    """A name for a figure."""
    shown = printable(name)
    return shown if len(shown) <= MOST_SHOWN else f"{shown[: MOST_SHOWN - 1]}…"


def escaped(stream: TextIO) -> TextIO:
    """`stream`, with what a terminal obeys written as \\x1b and the like; one that is no stream of bytes as it is."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    above = _Escaped(stream.buffer, stream.encoding, "backslashreplace", line_buffering=True)
    above.replaced = stream  # without a reference it would close the bytes below
    return above


class _Escaped(io.TextIOWrapper):
    def write(self, text: str) -> int:
        super().write(COLOUR_OR_OBEYED.sub(lambda match: match.group(1) or _escape(match.group()), text))
        return len(text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()
