"""The log as a person at a terminal reads it."""

from __future__ import annotations

import logging


class LogLine(logging.Formatter):
    """The message; above INFO its level, of another package's logger its name before it."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        name = "" if record.name.partition(".")[0] in ("tasks", "__main__") else f"{record.name}: "
        return level + name + super().format(record)
