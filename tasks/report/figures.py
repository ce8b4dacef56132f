"""Figures of the report as inline SVG: transparent, text as text, colours that read on light and dark.

Equal input gives equal bytes. Axes: C labels.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.figure import Figure

from tasks.core.names import short

INK = "#7d8590"  # axes and text; the page's style sheet replaces it by its own text colour
BLUE, ORANGE, GREEN, RED = "#3b82f6", "#f59e0b", "#10b981", "#ef4444"
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label may hold dollar signs
    "svg.hashsalt": "tagwright",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
MOST_CURVES = 12
"""Labels drawn singly in the precision-recall figure: the worst ones, which are the ones to look at."""


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None, "Creator": None}
    )
    text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return text[text.index("<svg") :]


def _figure(width: float = 6.2, height: float = 3.6) -> tuple[Figure, matplotlib.axes.Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


@matplotlib.rc_context(STYLE)
def precision_recall(curves: dict[str, dict], overall: dict, average_precision: dict[str, float | None]) -> str:
    """Precision against recall: all labels together in bold, the labels with the lowest AP as thin lines.

    curves: {label: {"precision": […], "recall": […]}}.  overall: the same for all labels together.
    """
    figure, axes = _figure()
    known = sorted((ap, label) for label, ap in average_precision.items() if ap is not None)
    for _, label in known[:MOST_CURVES]:
        axes.plot(curves[label]["recall"], curves[label]["precision"], color=INK, alpha=0.45, linewidth=0.8)
    for ap, label in known[:3]:
        axes.plot(
            curves[label]["recall"], curves[label]["precision"], linewidth=1.3, label=f"AP {ap:.3f}  {short(label)}"
        )
    axes.plot(overall["recall"], overall["precision"], color=BLUE, linewidth=2.4, label="all labels together")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(True)
    axes.legend(loc="lower left", fontsize=8)
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def reliability(bins: Sequence[dict]) -> str:
    """Share of positives against mean score; dot area follows the number of (image, label) pairs."""
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--")
    pairs = np.asarray([b["pairs"] for b in bins], float)
    size = 20 + 160 * np.sqrt(pairs / pairs.max()) if len(pairs) else []
    axes.plot([b["score"] for b in bins], [b["positives"] for b in bins], color=BLUE, linewidth=1.2)
    axes.scatter(
        [b["score"] for b in bins], [b["positives"] for b in bins], s=size, color=BLUE, alpha=0.5, linewidths=0
    )
    axes.set(xlabel="score", ylabel="share of positives", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.grid(True)
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def learning_curve(rows: Sequence[dict]) -> str:
    """Loss (right axis) and validation mAP of raw and EMA weights (left axis) by epoch; '' without rows."""
    if not rows:
        return ""
    figure, axes = _figure()
    epochs = [row["epoch"] for row in rows]
    for key, name, colour in (("val_map_raw", "mAP, raw weights", BLUE), ("val_map_ema", "mAP, EMA weights", GREEN)):
        values = [row.get(key) for row in rows]
        if any(v is not None for v in values):
            axes.plot(
                epochs, [np.nan if v is None else v for v in values], color=colour, marker="o", markersize=3, label=name
            )
    axes.set(xlabel="epoch", ylabel="mAP on calibration")
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.grid(True)
    losses = axes.twinx()
    losses.plot(epochs, [row["loss"] for row in rows], color=ORANGE, linewidth=1, linestyle=":", label="training loss")
    losses.set_ylabel("loss")
    handles = axes.get_legend_handles_labels()[0] + losses.get_legend_handles_labels()[0]
    axes.legend(handles, [h.get_label() for h in handles], fontsize=8, loc="center right")
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def resampling(rows: Sequence[dict]) -> str:
    """Share of images a label stands on, before and after repetition by r(I). rows: {"label", "before", "after"}."""
    if not rows:
        return ""
    rows = sorted(rows, key=lambda row: -row["before"])
    figure, axes = _figure(6.2, max(2.0, 0.22 * len(rows) + 0.9) if len(rows) <= 60 else 4.5)
    if len(rows) <= 60:
        y = np.arange(len(rows))
        axes.barh(y - 0.2, [r["before"] for r in rows], 0.4, color=INK, alpha=0.55, label="before")
        axes.barh(y + 0.2, [r["after"] for r in rows], 0.4, color=BLUE, label="after r(I)")
        axes.set_yticks(y, [short(r["label"]) for r in rows])
        axes.invert_yaxis()
        axes.set_xlabel("share of training images")
        axes.grid(True, axis="x")
    else:
        axes.plot([r["before"] for r in rows], color=INK, label="before")
        axes.plot([r["after"] for r in rows], color=BLUE, linewidth=0.9, label="after r(I)")
        axes.set(yscale="log", xlabel="labels, most frequent first", ylabel="share of training images")
        axes.grid(True)
    axes.legend(fontsize=8)
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def cooccurrence(labels: Sequence[str], conditional_CC: np.ndarray, *, most: int = 40) -> str:
    """P(column | row) as a heat map of the `most` most connected labels, diagonal left out. conditional_CC in [0, 1]."""
    matrix = np.nan_to_num(np.asarray(conditional_CC, float))
    if not matrix.size:
        return ""
    np.fill_diagonal(matrix, 0)
    kept = np.sort(np.argsort(-(matrix.sum(0) + matrix.sum(1)), kind="stable")[:most])
    side = max(3.0, 0.22 * len(kept) + 1.2)
    figure, axes = _figure(side + 0.6, side)
    image = axes.imshow(np.ma.masked_equal(matrix[np.ix_(kept, kept)], 0), cmap="Blues", vmin=0, vmax=1)
    names = [short(labels[i]) for i in kept]
    axes.set_xticks(range(len(kept)), names, rotation=90)
    axes.set_yticks(range(len(kept)), names)
    axes.set(xlabel="also present", ylabel="given")
    figure.colorbar(image, ax=axes, shrink=0.7)
    return _svg(figure)
