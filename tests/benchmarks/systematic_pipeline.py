"""Systematic errors through the pipeline itself: docs/cleaning.md.

    python -m tests.benchmarks systematic_pipeline --plant FOLDER   VOC2007 (train, val) with labels lost, as an export
    python -m tests.benchmarks systematic_pipeline --judge FOLDER   in a project that has cleaned it: what became of it

Lost are those of a pattern of `systematic_errors` (--lost), over the 5,008 images. Between the two, in a fresh clone:

    python -m tasks init FOLDER/VOC2007 --recipe photos_fast --weights FILE
    # params.yaml: out_of_fold: {enabled: true, epochs: 3}, clean: {enabled: true}
    python -m flows run --until clean
"""

from __future__ import annotations

import argparse
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tasks.core.workspace import Workspace
from tasks.params import load_params
from tasks.training.folds import tones
from tests.benchmarks.noise_shapes import LABELS
from tests.benchmarks.systematic_errors import VOC, read_official

THING = re.compile(r"\s*<object>.*?</object>", re.DOTALL)


def plant(folder: Path, pattern: str) -> None:
    """Pictures, lists and xml without the lost objects; lost.json names the pairs."""
    root = folder / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for member, data in _members(VOC / "VOC2007-trainval/images.tar"):
        if member.suffix == ".jpg":
            (root / "JPEGImages" / member.name).write_bytes(data)
    ids = sorted(path.stem for path in (root / "JPEGImages").iterdir())
    toned = np.array([tones_of(root / "JPEGImages" / f"{image_id}.jpg") for image_id in ids])
    official = read_official("trainval").take(ids, toned)
    if pattern not in official.patterns:
        raise SystemExit(f"--lost: no pattern '{pattern}'. There are: {'; '.join(official.patterns)}.")
    lost_of: dict[str, set[str]] = {image_id: set() for image_id in ids}  # difficult objects go as well
    for label, images_N in official.patterns[pattern]:
        for n in np.flatnonzero(images_N):
            lost_of[ids[n]].add(label)
    for member, data in _members(VOC / "VOC2007.tar.gz"):
        if member.suffix == ".xml" and member.stem in lost_of:
            text = data.decode()
            for thing in THING.findall(text):
                if re.search(r"<name>(\w+)", thing)[1] in lost_of[member.stem]:
                    text = text.replace(thing, "", 1)
            (root / "Annotations" / member.name).write_text(text, encoding="utf-8")
        elif member.name in ("train.txt", "val.txt"):
            listed = [i for i in data.decode().split() if i in lost_of]
            (root / "ImageSets/Main" / member.name).write_text("\n".join(listed) + "\n", encoding="utf-8")
    present = ({LABELS[c] for c in np.flatnonzero(row_C == 1)} for row_C in official.true_NC)
    pairs = [[i, label] for i, labels in zip(ids, present, strict=True) for label in sorted(labels & lost_of[i])]
    (folder / "lost.json").write_text(json.dumps(pairs), encoding="utf-8")
    print(f"{len(ids)} images, {len(pairs)} labels lost: {root}")


def judge(folder: Path) -> None:
    """Of the project in the working directory, by partition."""
    workspace = Workspace(load_params().paths)
    lost = {(i, label) for i, label in json.loads((folder / "lost.json").read_text(encoding="utf-8"))}
    changes, queue = workspace.read("cleaned.changes").to_pylist(), workspace.read("cleaned.queue").to_pylist()
    print("| images | lost | changed / right | unknown / lost | asked / lost | changed or asked |\n|" + "---|" * 6)
    for partition in ("train", "calibration"):
        own = {image_id.rpartition("/")[2] for image_id in workspace.image_ids(partition)}

        def pairs(rows: list[dict], own: set[str] = own) -> set[tuple[str, str]]:
            named = {(row["image_id"].rpartition("/")[2], row["label"]) for row in rows}
            return {pair for pair in named if pair[0] in own}

        of = {pair for pair in lost if pair[0] in own}
        changed, unknown = (pairs([r for r in changes if (r["after"] == -1) == is_unknown]) for is_unknown in (0, 1))
        asked = pairs(queue)
        cells = (f"{len(of)}", *(f"{len(those)} / {len(those & of)}" for those in (changed, unknown, asked)))
        print(f"| {partition} | {' | '.join(cells)} | {len(of & (changed | asked))} |")


def tones_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return tones(torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None])[0].numpy()


def _members(archive: Path) -> Iterator[tuple[Path, bytes]]:
    with tarfile.open(archive) as file:
        for member in file:
            if member.isfile():
                yield Path(member.name), file.extractfile(member).read()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="systematic_pipeline", description=__doc__.splitlines()[0])
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--plant", type=Path, metavar="FOLDER")
    one.add_argument("--judge", type=Path, metavar="FOLDER")
    parser.add_argument("--lost", default="three at once", metavar="PATTERN", help="of systematic_errors")
    options = parser.parse_args(argv)
    if options.plant:
        plant(options.plant, options.lost)
    else:
        judge(options.judge)


if __name__ == "__main__":
    main()
