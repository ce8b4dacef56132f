"""One small file a stage: digests of the code that its result follows from, under today's choices."""

from __future__ import annotations

from pathlib import Path

import yaml

from tasks.core.fingerprint import fingerprints
from tasks.core.tables import write_json
from tasks.params import Params

RECORDED = False


def run(params: Params) -> None:
    """Sources and params.yaml -> a digest file for each stage."""
    by_stage = fingerprints(Path(), yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")))
    for stage, digests in by_stage.items():
        write_json(params.paths.code / f"{stage}.json", {"modules": digests})
    for path in params.paths.code.glob("*.json"):
        if path.stem not in by_stage:
            path.unlink()
