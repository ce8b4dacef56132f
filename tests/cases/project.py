"""A project of one's own, small enough to read: a case of ../shared/cases, or one that a test makes."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tasks.core.workspace import Workspace
from tasks.params import Params, parse_params
from tests.conftest import ROOT
from tests.homes import merged, run_stages

CASES = ROOT.parent / "shared" / "cases"


@dataclass
class Project:
    """Stages run in this process, in the project's folder. overlay: changed params."""

    folder: Path
    overlay: dict

    @property
    def params(self) -> Params:
        base = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        base |= {"sources": {}, "download": {}}
        return parse_params(merged(base, self.overlay))

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.params.paths)

    def run(self, *stages: str) -> None:
        run_stages(self.params, *stages)

    def images(self, source: str) -> dict[str, dict]:
        """Native id -> row of the ingested images."""
        rows = self.workspace.read("ingested.images", source=source).to_pylist()
        return {row["image_id"].split("/", 1)[1]: row for row in rows}

    def labels(self, name: str = "mapped.labels") -> dict[tuple[str, str], int]:
        """(image id, label) -> state."""
        return {(row["image_id"], row["label"]): row["state"] for row in self.workspace.read(name).to_pylist()}

    def report(self, source: str) -> dict:
        return self.workspace.read("coverage_report")["sources"][source]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in an empty folder: project(name of a case) or project(sources={…}, labels=[…])."""
    monkeypatch.chdir(tmp_path)

    def make(case: str = "", *, sources: Mapping | None = None, labels: list | None = None, **overlay: object):
        if case:
            if not (CASES / case).is_dir():
                pytest.skip(f"needs the case {case} in shared/cases beside the repository")
            shutil.copytree(CASES / case, tmp_path, dirs_exist_ok=True)
            given = yaml.safe_load((CASES / case / "params.yaml").read_text(encoding="utf-8"))
            sources = given["sources"] if sources is None else sources
        if labels is not None:
            taxonomy = tmp_path / "data/taxonomy/taxonomy.yaml"
            taxonomy.parent.mkdir(parents=True, exist_ok=True)
            taxonomy.write_text(yaml.safe_dump({"labels": labels}), encoding="utf-8")
        return Project(tmp_path, {"sources": dict(sources or {}), **overlay})

    return make


def picture(path: Path, seed: int | None = None) -> Path:
    """A real image file, another one for each path or seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(abs(hash(path.name)) % 2**32 if seed is None else seed)
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(path, kind)
    return path


def coco_file(path: Path, files: Mapping[str, list[str]], *, first_id: int = 0) -> Path:
    """COCO JSON of {file name: categories}, ids counted from `first_id`."""
    names = sorted({name for own in files.values() for name in own}) or ["cat"]
    images = [{"id": first_id + n, "file_name": file} for n, file in enumerate(files)]
    annotations = [
        {"id": n, "image_id": first_id + row, "category_id": names.index(name)}
        for n, (row, name) in enumerate((row, name) for row, own in enumerate(files.values()) for name in own)
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(names)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said at the terminal, warnings and above."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
