"""Cases: names that mean something to a page, a figure, a path or a spreadsheet, through the whole pipeline."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np

from tasks.core import tables
from tasks.export.runtime import Predictor
from tests.cases.project import coco_file, picture
from tests.conftest import ROOT

LABELS = [
    *("$x^2$", "_hidden", "<b>&amp;", "</script><script>alert(1)</script>", "{{ 7 * 7 }}", "{% raw %}"),
    *("AC/DC", "=1+1", "犬🐕", "a\"b'c,d", "%s{0}", "x" * 200),
]
FILES = ["<img src=x onerror=alert(1)>.jpg", "$y$ {{ 7 * 7 }}.jpg", "a\"b'&amp;.jpg"]
STAGES = (
    *("ingest", "map_labels", "deduplicate", "split", "shard", "pretrain", "out_of_fold", "clean", "resample"),
    *("finetune", "predict", "calibrate", "evaluate", "export", "report"),
)
SHORT = {
    "pretrain": {"enabled": False},
    "out_of_fold": {"enabled": False},
    "clean": {"enabled": False},
    "resample": {"enabled": False},
    "split": {"num_folds": 4},
    "shard": {"short_side_px": 32},
    "model": {"image_px": [32, 32]},
    "finetune": {"epochs": 1},
    "calibrate": {"bootstrap": 2},
    "evaluate": {"bootstrap": 2},
    "export": {"parity_images": 2},
}


class Page(HTMLParser):
    """What a browser makes of a page: its texts, the contents of its scripts, the names of all attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.scripts, self.attributes, self.inside = [], [], set(), ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.inside = tag
        self.attributes |= {name for name, _ in attributes}

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside == "script" else self.text).append(data)


def test_hostile_names_are_shown_as_they_are_and_obeyed_nowhere(project, tmp_path):
    names = FILES + [f"{n}.jpg" for n in range(33)]
    files = {name: [LABELS[n % len(LABELS)], LABELS[(n * 5 + 1) % len(LABELS)]] for n, name in enumerate(names)}
    coco_file(tmp_path / "raw/a.json", files)
    for n, name in enumerate(names):
        picture(tmp_path / "raw/images" / name, seed=n)
    case = project(
        sources={"s": {"kind": "coco", "path": "raw", "annotations": "a.json", "use": "train"}},
        labels=[{"id": label, "name": label, "from": {"coco": [label]}} for label in LABELS],
        **SHORT,
    )
    shutil.copy(ROOT / "dvc.yaml", tmp_path)  # the order of the ledger
    case.workspace.write("truth", tables.empty(tables.TRUTH))  # no error was planted
    case.run(*STAGES)
    paths = case.params.paths

    page = Page(paths.report.read_text(encoding="utf-8"))
    shown = "".join(page.text)
    assert [label for label in LABELS if label not in shown] == []
    assert "onerror" not in page.attributes
    assert not [script for script in page.scripts if script.strip() == "alert(1)"]

    model = Predictor(paths.exported)
    assert list(model.manifest.labels) == LABELS
    assert set(json.loads(paths.thresholds.read_text(encoding="utf-8"))["labels"]) == set(LABELS)
    assert set(case.workspace.read("mapped.labels")["label"].to_pylist()) == set(LABELS)

    written = [path.relative_to(tmp_path) for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert [str(path) for path in written if not re.fullmatch(r"[\w./@-]+", str(path))] == []
    assert np.isfinite(case.workspace.read("metrics")["test"]["mAP"])
