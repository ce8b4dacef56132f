"""One small file a stage: digests of the code that its result follows from, under today's choices."""

from __future__ import annotations

from pathlib import Path

import yaml

from tasks.core.fingerprint import fingerprints
from tasks.core.tables import write_json
from tasks.params import Params

RECORDED = False


def run(params: Params) -> None:
    """Sources, params.yaml and dvc.yaml -> a digest file for each stage."""
    read = [yaml.safe_load(Path(name).read_text(encoding="utf-8")) for name in ("params.yaml", "dvc.yaml")]
    found = fingerprints(Path(), *read)
    for stage, digests in found.items():
        write_json(params.paths.code / f"{stage}.json", {"modules": digests})
    for path in params.paths.code.glob("*.json"):
        if path.stem not in found:
            path.unlink()
