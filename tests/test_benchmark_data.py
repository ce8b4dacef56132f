"""The photographs that benchmarks train on, and the peer that runs elsewhere."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from tasks.core.states import States
from tests.benchmarks import semi
from tests.benchmarks.ladder import halves
from tests.benchmarks.peers import fastai
from tests.benchmarks.photographs import Photographs, aerial_maritime, pack, unpacked


@pytest.fixture(scope="module")
def aerial(real_data) -> Photographs:
    return aerial_maritime()


def test_aerial_tiles_are_annotated_exhaustively_and_counted_as_their_readme_counts_them(aerial):
    assert aerial.train.labels == ["boat", "car", "dock", "jetski", "lift"]
    assert aerial.train.targets_NC.sum(axis=0).tolist() == [41, 19, 311, 74, 263]
    assert aerial.test.targets_NC.sum(axis=0).tolist() == [9 + 3, 14 + 3, 80 + 24, 14 + 14, 63 + 23]
    assert (len(aerial.train.image_ids), len(aerial.test.image_ids)) == (371, 137)
    assert aerial.train.known_NC.all()
    assert aerial.test.known_NC.all()


def test_tiles_of_one_photograph_stay_together(aerial):
    train, test = set(aerial.scenes(aerial.train)), set(aerial.scenes(aerial.test))
    assert (len(train), len(test), len(train & test)) == (52, 15 + 7, 0)
    parts = halves(aerial.train, aerial.scenes(aerial.train))
    learnt, calibration = (set(aerial.scenes(states)) for states in parts)
    assert learnt | calibration == train
    assert not learnt & calibration


def test_a_tar_gives_back_what_was_packed(aerial, tmp_path):
    few = [states.take(np.arange(3)) for states in (aerial.train, aerial.test)]
    ids = [i for states in few for i in states.image_ids]
    packed = Photographs({i: aerial.files[i] for i in ids}, *few, {i: aerial.scene_of[i] for i in ids})
    pack(packed, tmp_path / "few.tar", short_side_px=32)
    again = unpacked(tmp_path / "few.tar")
    assert (list(again.files), again.scene_of) == (ids, packed.scene_of)
    for before, after in zip(few, (again.train, again.test), strict=True):
        assert (after.image_ids, after.labels) == (before.image_ids, before.labels)
        assert np.array_equal(after.states_NC, before.states_NC)


def test_the_protocol_of_few_labels_has_images_of_its_classes_alone(aerial):
    some = replace(aerial, train=aerial.train.take(np.arange(40)), test=aerial.test.take(np.arange(40)))
    task = semi.three_classes(some, ("boat", "car", "jetski"))
    for images in (task.train, task.test):
        assert images.targets_NC.any(axis=1).all()
        assert images.targets_NC.shape == images.known_NC.shape == (len(images), 3)


def test_a_peer_elsewhere_gets_files_and_labels_and_gives_back_scores(tmp_path):
    labels = ["cat", "dog"]
    train = States.of(["a", "b"], labels, np.array([[1, 1], [0, 0]]), np.array([[True, True], [True, False]]))
    test = States.of(["c"], labels, np.array([[1, 0]]), np.ones((1, 2), bool))
    interpreter = tmp_path / "python"
    interpreter.write_text(
        f"""#!{sys.executable}
import json, sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[2])
Path({str(tmp_path)!r}, "got.json").write_text((folder / "photographs.json").read_text())
np.save(folder / "scores.npy", np.full((1, 2), len(list(folder.glob("*.jpg"))), np.float32))
(folder / "run.json").write_text('{{"epochs": 3, "cpu_s": 1.5}}')
"""
    )
    interpreter.chmod(0o755)
    photographs = Photographs({"a": b"", "b": b"", "c": b""}, train, test)
    peer = fastai(photographs, 160, cpu_s=60, seed=0, python=interpreter)
    assert (peer.scores_NC.tolist(), peer.epochs, peer.cpu_s) == ([[3, 3]], 3, 1.5)
    assert json.loads((tmp_path / "got.json").read_text()) == {
        "labels": labels, "train": {"a.jpg": labels, "b.jpg": []}, "test": ["c.jpg"]
    }  # fmt: skip
