"""What people hand in: YOLO's text files."""

from __future__ import annotations

from tests.sources.bad_input.case import Case, remove, text

CASES = [
    Case("no data.yaml", remove("data.yaml"), ("data.yaml: no such file",)),
    Case("no names", text("data.yaml", "train: images/train\n"), ("data.yaml: no `names`",)),
    Case("not YAML", text("data.yaml", "names: [cat\n"), ("data.yaml: not readable",)),
    Case("names that skip a number", text("data.yaml", "names: {0: cat, 2: dog}\n"), ("numbered [0, 2]",)),
    Case("a name twice", text("data.yaml", "names: [cat, cat]\n"), ("class 'cat' is named twice",)),
    Case("a class beyond the names", text("labels/train/b.txt", "2 0 0 1 1\n"), ("b.txt:1", "class 2 does not exist")),
    Case("not numbers", text("labels/train/b.txt", "cat 0 0 1 1\n"), ("b.txt:1", "'cat'")),
    Case(
        "a split elsewhere",
        text("data.yaml", "train: /home/ann/pets\nnames: [cat, dog]\n"),
        ("data.yaml: train: '/home/ann/pets' is not below",),
    ),
    Case(
        "splits of another machine",
        text(
            "data.yaml",
            "path: C:\\\\pets\ntrain: /home/ann/pets/images/train\nval: images\\val\nnames: {0: cat, 1: dog}\n",
        ),
    ),
    Case("Roboflow's paths", text("data.yaml", "train: ../images/train\nval: ../images/val\nnames: ['cat', 'dog']\n")),
    Case("no split at all", text("data.yaml", "names: ['cat', 'dog']\n")),
    Case(
        "validated on what it trains on",
        text("data.yaml", "train: images/train\nval: images/train\nnames: ['cat', 'dog']\n"),
    ),
    Case("polygons, key points and BOM", text("labels/train/b.txt", "1 0 0 0.1 0.2 0.3 0.4 2\r\n", "utf-8-sig")),
    Case("names as text", text("classes.txt", "cat\ndog\n"), options={"names": "classes.txt"}),
    Case("a folder of pictures that is not there", says=("nope: no such folder",), options={"images": "nope"}),
    Case(
        "no text file at all",
        lambda root: [path.unlink() for path in (root / "labels").rglob("*.txt")],
        ("none of its 3 pictures",),
    ),
]
