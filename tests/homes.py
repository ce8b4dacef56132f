"""A copy of the repository with smaller params, its own git and its own DVC cache: where a test acts as a user does."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tasks.params import Params
from tests.imports import ROOT

SMALL = {
    "make_demo": {
        "sets": {"digits": {"num_coco": 240, "num_test": 60, "num_openimages": 80, "num_pool": 20, "image_px": 64}}
    },
    "pretrain": {"epochs": 1},
    "out_of_fold": {"num_folds": 2, "epochs": 1},
    "finetune": {"epochs": 3, "checkpoint_every_steps": 2},
    "calibrate": {"bootstrap": 20},
    "evaluate": {"bootstrap": 50},
}


def merged(base: dict, overlay: dict) -> dict:
    return {
        **base,
        **{
            k: merged(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v
            for k, v in overlay.items()
        },
    }


def new_home(folder: Path, overlay: dict = SMALL) -> Path:
    """A clone's content with smaller params, its own git and DVC cache."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if not name.startswith(("tests/", "docs/", ".ci/")) and name != "dvc.lock" and (ROOT / name).exists():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["make_demo"]["sets"] = {}
    (folder / "params.yaml").write_text(yaml.safe_dump(merged(params, overlay), sort_keys=False), encoding="utf-8")
    for command in ("git init -q", "git add -A", "git -c user.name=t -c user.email=t@t commit -qm start"):
        subprocess.run(command.split(), cwd=folder, check=True)
    return folder


def run(home: Path, *command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess:
    """`python -m …` in `home`, single-threaded so that results do not depend on what else runs."""
    activated = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": activated, "OMP_NUM_THREADS": "1", "COLUMNS": "80", **env}
    done = subprocess.run([sys.executable, "-m", *command], cwd=home, env=environment, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def run_stages(params: Params, *names: str) -> None:
    """The stages one after the other, in this process and the current folder; `ingest` for every source."""
    for name in names:
        stage = importlib.import_module(f"tasks.stages.{name}")
        if name == "ingest":
            for source in params.sources:
                stage.run(params, source)
        else:
            stage.run(params)
