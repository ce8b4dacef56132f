"""Labels of strangers in figures: shown as they are, all of them, in valid XML."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np

from tasks.report import figures

HOSTILE = [
    "$x^2$",
    "$",
    "_hidden",
    "<script>alert(1)</script>",
    "a&b",
    "\x1b[2J",
    "x" * 500,
    "犬🐕",
    "\u202egnp",
    "../../x",
]


def texts(svg: str) -> str:
    return "\n".join(ElementTree.fromstring(svg).itertext())


def test_hostile_labels_are_shown_in_legends_as_they_are():
    curve = {"recall": [0, 1], "precision": [1, 0.5]}
    for label in HOSTILE:
        shown = texts(figures.precision_recall({label: curve}, curve, {label: 0.5}))
        assert f"AP 0.500  {figures.short(label)}" in shown, label


def test_hostile_labels_are_shown_on_axes_as_they_are():
    rows = [{"label": label, "before": 0.1, "after": 0.2} for label in HOSTILE]
    charts = (figures.resampling(rows), figures.cooccurrence(HOSTILE, np.full((len(HOSTILE),) * 2, 0.5)))
    for shown in map(texts, charts):
        assert all(figures.short(label) in shown for label in HOSTILE)
