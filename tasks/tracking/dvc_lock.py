"""The hashes that DVC computed anyway: from a run to its data, and back.

An md5 is the name under which DVC's cache and remotes keep the content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml


def dvc_hashes(dvc_lock: Path, stage: str, what: Literal["deps", "outs"]) -> dict[str, str]:
    """{path: md5} of what a stage read or wrote, directories included; {} for a stage that dvc.lock does not have."""
    if not dvc_lock.exists():
        return {}
    entry = _read(dvc_lock, dvc_lock.stat().st_mtime_ns).get("stages", {}).get(stage, {})
    return {item["path"]: item["md5"] for item in entry.get(what, []) if "md5" in item}


def digest_of(hashes: Mapping[str, str]) -> str:
    """One md5 for all of them, '' for none."""
    text = json.dumps(hashes, sort_keys=True) if hashes else ""
    return hashlib.md5(text.encode("utf-8"), usedforsecurity=False).hexdigest() if text else ""


@lru_cache(maxsize=1)
def _read(path: Path, mtime_ns: int) -> dict[str, Any]:
    """The file as it was at `mtime_ns`: closing a pipeline asks once a stage."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
