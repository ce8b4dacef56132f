"""The hashes that DVC computed anyway: from a run to its data, and back."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml


def dvc_hashes(dvc_lock: Path, stage: str) -> dict[str, str]:
    """{'read.PATH' or 'wrote.PATH': md5} of a stage, directories included; {} for a stage that dvc.lock does not have.

    The md5 is the name under which DVC's cache and remotes keep the content.
    """
    if not dvc_lock.exists():
        return {}
    entry = _read(dvc_lock, dvc_lock.stat().st_mtime_ns).get("stages", {}).get(stage, {})
    return {
        f"{word}.{item['path']}": item["md5"]
        for word, key in (("read", "deps"), ("wrote", "outs"))
        for item in entry.get(key, [])
        if "md5" in item
    }


@lru_cache(maxsize=1)
def _read(path: Path, mtime_ns: int) -> dict[str, Any]:
    """The file as it was at `mtime_ns`: closing a pipeline asks once a stage."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
