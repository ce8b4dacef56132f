"""`python -m tasks predict` on a machine that has onnxruntime, numpy and Pillow, and nothing else of the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.export.runtime import predict_files
from tasks.images.stored_pixels import stored_pixels
from tests.conftest import ROOT
from tests.export import toy
from tests.images import pictures

# What pip installs for them, and what is part of an interpreter's own set-up.
INSTALLED = ("numpy", "onnxruntime", "PIL", "flatbuffers", "google", "packaging")
BARE = f"""
import importlib.machinery, runpy, sys
class Bare(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        place = (spec and spec.origin) or ""
        if "site-packages" in place and name.split(".")[0] not in {INSTALLED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return spec
sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, Bare]
runpy.run_module("tasks", run_name="__main__", alter_sys=True)
"""


def tasks(*arguments, stdin: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BARE, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, env=environment, encoding="utf-8")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return toy.exported(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Plain scenes in two folders, and the awkward four between them."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "deep").mkdir()
    for n in range(6):
        name = f"deep/{n}.jpg" if n % 2 else f"{n}.jpg"
        (folder / name).write_bytes(pictures.encode(pictures.scene(90, 70, seed=n), "JPEG"))
    whole = (folder / "0.jpg").read_bytes()
    (folder / "1_truncated.jpg").write_bytes(whole[: len(whole) // 2])
    pictures.scene().convert("CMYK").save(folder / "2_cmyk.jpg")
    pictures.scene(1, 1).save(folder / "3_one_pixel.png")
    pictures.scene(20_000, 40).save(folder / "4_wide.png")
    return folder


def test_files_folders_globs_and_standard_input_are_scored_and_awkward_images_disturb_nobody(model, folder):
    arguments = [folder / "0.jpg", folder / "deep", folder / "*_*", "-"]
    done = tasks(
        "predict", model, *arguments, stdin=f"{folder / '2.jpg'}\n{folder / 'absent.jpg'}\n{folder / '4.jpg'}\n"
    )
    assert done.returncode == 0, done.stderr
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    names = [Path(entry["path"]).name for entry in entries]
    assert names == [
        "0.jpg", "1.jpg", "3.jpg", "5.jpg", "1_truncated.jpg", "2_cmyk.jpg", "3_one_pixel.png", "4_wide.png",
        "2.jpg", "absent.jpg", "4.jpg",
    ]  # fmt: skip
    assert [n for n, e in zip(names, entries, strict=True) if "error" in e] == ["1_truncated.jpg", "absent.jpg"]
    plain = [entry for entry in entries if "_" not in Path(entry["path"]).name and "error" not in entry]
    alone = [next(predict_files(model, [entry["path"]], read=stored_pixels)) for entry in plain]
    assert [set(entry["labels"]) for entry in plain] == [set(entry["labels"]) for entry in alone]
    for entry, wanted in zip(plain, alone, strict=True):
        assert entry["labels"] == pytest.approx(wanted["labels"], abs=1e-5)
    assert "11 images in" in done.stderr
    assert "2 could not be read" in done.stderr


def test_a_users_error_is_one_line_and_wrong_usage_says_how(model, tmp_path):
    done = tasks("predict", tmp_path / "absent.onnx", "x.jpg")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: ")
    done = tasks("predict", model)
    assert done.returncode == 2
    assert "usage: python -m tasks predict MODEL.onnx PATH" in done.stderr


def test_the_machine_of_these_tests_is_bare(model):
    done = tasks("summary")
    assert done.returncode != 0
    assert "No module named 'typer'" in done.stderr
