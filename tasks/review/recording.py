"""Verdicts given at the terminal or exported by another tool, into the verdicts' file."""

from __future__ import annotations

import getpass
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tasks.core.errors import VerdictError, did_you_mean
from tasks.core.workspace import Workspace
from tasks.review.duplicate_verdicts import (
    DuplicateVerdict,
    append_duplicate_verdicts,
    read_duplicate_verdicts,
)
from tasks.review.imports import FORMATS, Importer, detect, read_export
from tasks.review.last_run import LastRun
from tasks.review.verdicts import Verdict, append_verdicts, read_verdicts


def default_reviewer() -> str:
    """git's user.name, or the name of the account."""
    try:
        done = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True)
    except OSError:  # no git
        return getpass.getuser()
    return done.stdout.strip() or getpass.getuser()


def record_verdict(workspace: Workspace, image_id: str, label: str, answer: str, who: str) -> str:
    """Append one verdict given at the terminal; returns a line for the person. Raises VerdictError."""
    importer = _importer(LastRun(workspace), who, datetime.now(UTC))
    added = append_verdicts(workspace.paths.verdicts, [importer.verdict(image_id, label, answer, where="verdict")])
    return f"{image_id}: {label} {answer} by {who}" + ("" if added else " (already recorded)")


def import_verdicts(workspace: Workspace, path: Path, file_format: str | None, who: str) -> str:
    """Append the verdicts of another tool's export; returns a line for the person. Raises VerdictError: place, remedy.

    file_format: of FORMATS; told from the file's beginning when None.  who: of verdicts whose author it does not name.
    Verdicts without a time of their own have that of the export or of the file. Of those, what the same person said at
    any time is left out, for a copy of the file is newer than the word of somebody who has changed their mind since.
    """
    text = read_export(path)
    name = file_format or detect(text, where=str(path))
    if name not in FORMATS:
        raise VerdictError(f"review import: --format: '{name}' is unknown. {did_you_mean(name, FORMATS)}")
    last_run = LastRun(workspace)
    importer = _importer(last_run, who, datetime.fromtimestamp(path.stat().st_mtime, UTC))
    verdicts = FORMATS[name](text, importer, where=str(path))
    known = {
        (v.who, v.sha256 or v.image_id, last_run.todays_name(v.label), v.verdict)
        for v in read_verdicts(workspace.paths.verdicts)
    }

    def repeats(v: Verdict) -> bool:
        label = last_run.todays_name(v.label)
        return any((v.who, image, label, v.verdict) in known for image in (v.sha256, v.image_id))

    recorded = {
        (v.who, pair, v.verdict)
        for v in read_duplicate_verdicts(workspace.paths.duplicate_verdicts)
        for pair in v.pairs
    }

    def is_news(v: Verdict | DuplicateVerdict) -> bool:
        if isinstance(v, DuplicateVerdict):
            return v not in importer.undated or any((v.who, pair, v.verdict) not in recorded for pair in v.pairs)
        return v not in importer.undated or not repeats(v)

    new = [v for v in verdicts if is_news(v)]
    added = append_verdicts(workspace.paths.verdicts, [v for v in new if isinstance(v, Verdict)])
    about_duplicates = [v for v in new if isinstance(v, DuplicateVerdict)]
    added += append_duplicate_verdicts(workspace.paths.duplicate_verdicts, about_duplicates)
    return f"{len(verdicts)} verdicts in {path} ({name}), {added} of them new"


def _importer(last_run: LastRun, who: str, when: datetime) -> Importer:
    workspace = last_run.workspace
    groups = workspace.read("deduplicated.groups") if workspace.exists("deduplicated.groups") else None
    moment = when.isoformat(timespec="seconds")
    return Importer(workspace.read("mapped.images"), last_run.taxonomy, who, moment, groups)
