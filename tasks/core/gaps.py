"""Gaps of annotation: images among which a label was never annotated, though it is elsewhere.

A third-party export may lack a label on every picture of one shape, or of one batch. A model that learns from it
learns the gap as well and then confirms it, so no score shows it. The annotations themselves do: the images of a source
are put in an order that has nothing to do with what they show, and the longest run of g of them without the label is a
gap where

    positions * (1 - q) ** g <= CHANCE       q: share of the label on the source's other images

so that one as long would hardly ever come about by chance. So are every k-th image by id, and the ids whose number has
one remainder by k, without the label, as where images are dealt out to k annotators. An order in which many labels have
a gap follows from what the images show (a folder a class, a film), and tells nothing.

Orders that have to do with what they show, such as brightness, need pictures to tell: gaps_shown.py. An absence in a
gap says nothing, unless somebody verified it.

Axes: N images, M images of a source, C labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from tasks.core.states import States
from tasks.core.tables import ABSENT, PRESENT, UNKNOWN_STATE

CHANCE = 1e-8
MIN_POSITIVES = 20
ENOUGH_ANSWERS = 10
LARGEST_SHARE = 0.9  # of the source's images
MOST_ANNOTATORS = 12  # to whom images are dealt out in turn
MOST_LABELS = 0.25  # of those with enough positives; more with a gap in one order, and the order tells nothing


@dataclass(frozen=True)
class Gap:
    """rows: positions of the images, int64.  where: which they are, in words.

    only_asked: whether no label is added there without a person, however likely it is.
    """

    source: str
    label: str
    rows: np.ndarray
    where: str
    only_asked: bool = False

    def __str__(self) -> str:
        return f"'{self.label}' is never annotated on {len(self.rows):,} images of {self.source}: {self.where}"


def find_gaps(states: States, images: pa.Table, coverage: pa.Table) -> list[Gap]:
    """By source, order and label, where absence is what nobody annotated: verified ones are believed.

    images: image_id, source, width, height (px), of these images at least; of all images of the sources, so that every
    k-th of them is known.  coverage: COVERAGE.
    """
    if not coverage.num_rows:  # nobody says that nothing is missing
        return []
    rows_N = _rows_of(states, images)
    height_N, width_N = (images[side].to_numpy().astype(float)[rows_N] for side in ("height", "width"))
    rank_N = _natural_rank(images)[rows_N]
    numbers = (re.findall(r"\d+", image_id) for image_id in states.image_ids)
    number_N = np.array([int(of_id[-1][-18:]) if of_id else 0 for of_id in numbers], np.int64)
    size_N = np.array([f"{w:.0f} x {h:.0f}" for w, h in zip(width_N, height_N, strict=True)], object)
    orders = {
        "ids {} to {}": (rank_N, np.asarray(states.image_ids, object)),
        "width / height {} to {}": (width_N / height_N, np.char.mod("%.3g", width_N / height_N)),
        "{} to {} pixels": (width_N * height_N, np.char.mod("%.0f", width_N * height_N)),
        "{} to {} px": (width_N * 1e6 + height_N, size_N),
    }
    gaps = []
    for source, of_source, columns in by_source(states, images, coverage):
        enough = sum((states.states_NC[of_source, c] == PRESENT).sum() >= MIN_POSITIVES for c in columns)
        for where, (value_N, name_N) in orders.items():
            in_order = of_source[np.argsort(value_N[of_source], kind="stable")]
            runs = longest_runs(states, columns, source, in_order, value_N)
            if len(runs) <= MOST_LABELS * enough:
                named = [where.format(name_N[gap.rows[0]], name_N[gap.rows[-1]]) for gap in runs]
                gaps += [replace(gap, where=f"{n}; {gap.where}") for gap, n in zip(runs, named, strict=True)]
        for where, value_N in (("one image in {} by id", rank_N), ("one number in {}", number_N)):
            dealt = _gaps_in_turn(states, columns, source, of_source, value_N, where)
            gaps += dealt if len({gap.label for gap in dealt}) <= MOST_LABELS * enough else []
    return _without_parts(gaps)


def _without_parts(gaps: list[Gap]) -> list[Gap]:
    """Of gaps of one label of a source, those that are no part of one before: shape and size say the same, often."""
    kept: list[Gap] = []
    for gap in gaps:
        before = [k.rows for k in kept if (k.source, k.label) == (gap.source, gap.label)]
        if not before or not np.isin(gap.rows, np.concatenate(before)).all():
            kept.append(gap)
    return kept


def _natural_rank(images: pa.Table) -> np.ndarray:
    """Place of each image among its source's, by id with numbers as numbers; int64."""
    rank = np.zeros(images.num_rows, np.int64)
    source_N = np.asarray(images["source"].to_pylist(), object)
    natural_N = np.array([re.sub(r"\d+", lambda m: m[0].zfill(20), i) for i in images["image_id"].to_pylist()])
    for source in set(source_N):
        of_source = np.flatnonzero(source_N == source)
        rank[of_source[np.argsort(natural_N[of_source], kind="stable")]] = np.arange(len(of_source))
    return rank


def _gaps_in_turn(
    states: States, columns: Sequence[int], source: str, of_source: np.ndarray, value_N: np.ndarray, where: str
) -> list[Gap]:
    """Where the images of one remainder by k, from 2 to MOST_ANNOTATORS, never have a label. value_N: int64."""
    gaps = []
    for c in columns:
        state_M = states.states_NC[of_source, c]
        present, known = (value_N[of_source[which_M]] for which_M in (state_M == PRESENT, state_M != UNKNOWN_STATE))
        for k in range(2, MOST_ANNOTATORS + 1) if len(present) >= MIN_POSITIVES else ():
            never = np.flatnonzero(np.bincount(present % k, minlength=k) == 0)
            images_K = np.bincount(known % k, minlength=k) if len(never) else ()
            for turn in never:
                share = len(present) / (len(known) - images_K[turn])
                if np.log(k) + images_K[turn] * np.log(max(1 - share, 1e-9)) <= np.log(CHANCE):
                    rows = of_source[(value_N[of_source] % k == turn) & (state_M != UNKNOWN_STATE)]
                    those = f"{where.format(k)}, such as '{states.image_ids[rows[0]]}'"
                    gaps.append(Gap(source, states.labels[c], rows, f"{those}; the others have it on {share:.0%}"))
    return gaps


def _rows_of(states: States, images: pa.Table) -> np.ndarray:
    place = {image_id: row for row, image_id in enumerate(images["image_id"].to_pylist())}
    return np.array([place[image_id] for image_id in states.image_ids], np.int64)


def by_source(states: States, images: pa.Table, coverage: pa.Table) -> Iterator[tuple[str, np.ndarray, list[int]]]:
    """Each source, positions of its images, and columns of the labels that it annotates wherever they are."""
    covered = set(zip(coverage["source"].to_pylist(), coverage["label"].to_pylist(), strict=True))
    source_N = np.asarray(images["source"].to_pylist(), object)[_rows_of(states, images)]
    for source in sorted(set(source_N)):
        columns = [c for c, label in enumerate(states.labels) if (source, label) in covered]
        yield source, np.flatnonzero(source_N == source), columns


def longest_runs(
    states: States,
    columns: Sequence[int],
    source: str,
    in_order: np.ndarray,
    value_N: np.ndarray,
    *,
    kept: float = 0.0,
) -> list[Gap]:
    """At most one a label, where it is longer than chance allows.

    in_order: positions of the source's images by their value; equal values stay together.
    kept: how often the label is in a gap after all, as a share of how often it is elsewhere. Above 0 the run is the one
    of the largest likelihood ratio, sum of log((1 - kept q) / (1 - q)) over absences and log(kept) over positives.
    """
    gaps = []
    for c in columns:
        state_M = states.states_NC[in_order, c]
        rows = in_order[state_M != UNKNOWN_STATE]
        present_M = state_M[state_M != UNKNOWN_STATE] == PRESENT
        if present_M.sum() < MIN_POSITIVES:
            continue
        start = np.flatnonzero(np.append(True, value_N[rows[1:]] != value_N[rows[:-1]]))
        share = present_M.mean()
        for _ in range(2):  # the share elsewhere needs a run, and the run that share
            first, last, ratio = _likeliest(present_M, start, share, kept)
            run = slice(first, last)
            elsewhere = len(rows) - (last - first)
            if elsewhere < (1 - LARGEST_SHARE) * len(rows):
                break
            share = (present_M.sum() - present_M[run].sum()) / elsewhere
        else:
            if ratio - np.log(len(start)) >= -np.log(CHANCE):
                absent = rows[run][~present_M[run]]
                gaps.append(Gap(source, states.labels[c], absent, f"the others have it on {share:.0%}"))
    return gaps


def _likeliest(present_M: np.ndarray, start: np.ndarray, share: float, kept: float) -> tuple[int, int, float]:
    """First and last + 1 of the run with the largest log likelihood ratio, and that; runs begin and end at `start`."""
    share = min(share, 1 - 1e-9)
    absent = np.log1p(-kept * share) - np.log1p(-share)
    present = np.log(kept) if kept else -(absent * len(present_M) + 1)  # outweighs all others
    score_K = np.append(0, np.cumsum(np.add.reduceat(np.where(present_M, present, absent), start)))
    lowest_K = np.minimum.accumulate(score_K)
    last = int(np.argmax(score_K - lowest_K))
    first = int(np.flatnonzero(score_K[: last + 1] == lowest_K[last])[-1])
    ends = np.append(start, len(present_M))
    return int(ends[first]), int(ends[last]), float(score_K[last] - score_K[first])


def not_refuted(gaps: Sequence[Gap], states: States, answered: tuple[np.ndarray, np.ndarray]) -> list[Gap]:
    """Without the gaps in which people looked, ENOUGH_ANSWERS times or more, and found nothing.

    answered: positions int64 (V,) of images with a verdict, and the verdicts int8 (V, C), 1 present, 0 absent, -1 none.
    """
    rows_V, verdicts_VC = answered
    kept = []
    for gap in gaps:
        verdicts_K = verdicts_VC[np.isin(rows_V, gap.rows), states.labels.index(gap.label)]
        if (verdicts_K == ABSENT).sum() < ENOUGH_ANSWERS or (verdicts_K == PRESENT).any():
            kept.append(gap)
    return kept


def mask_of(gaps: Sequence[Gap], states: States) -> np.ndarray:
    """The pairs in a gap; bool (N, C)."""
    mask_NC = np.zeros(states.states_NC.shape, bool)
    for gap in gaps:
        mask_NC[gap.rows, states.labels.index(gap.label)] = True
    return mask_NC


def without(states: States, gaps: Sequence[Gap]) -> States:
    """The states with the pairs in a gap unknown."""
    if not gaps:
        return states
    return replace(states, states_NC=np.where(mask_of(gaps, states), np.int8(UNKNOWN_STATE), states.states_NC))
