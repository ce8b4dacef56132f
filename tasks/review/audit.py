"""What people's answers say about the annotations: the true error rate, and whether it pays to go on asking."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from scipy.stats import norm

from tasks.cleaning.noise import error_probability
from tasks.core.states import States
from tasks.core.tables import ABSENT, PRESENT, UNKNOWN_STATE
from tasks.review.agreement import Cell, ResolvedVerdicts, kappas
from tasks.review.queue import AUDIT, LEAST_YIELD, expected_errors, lots, open_cells

CONFIDENCE = 0.95
RECENT = 100  # answers that tell whether the queue still pays; without any find, at least 73 bring Wilson below 0.05
BLOCK = 20_000  # images whose lots are drawn at a time
PRIOR_ERRORS = 10.0  # found and expected alike, before the first answer


PresentOf = Callable[[np.ndarray], np.ndarray]
"""Positions of images, int64 (B,) -> P(present) of their labels by the policy, float (B, C)."""


@dataclass(frozen=True)
class Rate:
    """A share with its interval, [0, 1]. wrong of asked answers; `share` weighs the strata by their true sizes."""

    wrong: int
    asked: int
    share: float
    low: float
    high: float


def error_rate(answers: Mapping[int, Sequence[bool]], population: Mapping[int, int]) -> Rate | None:
    """Share of wrong annotations in the whole data from a random sample of each stratum; None without an answer.

    answers: given state (1, 0) -> whether each audited annotation was wrong.  population: given state -> known cells.
    A stratum without an answer may be anything from 0 to 1, and counts as 0 in the share.
    Interval: Wilson's in each stratum, joined as in Zou & Donner, Stat. Med. 2008 (variance estimates recovery).
    """
    if not any(answers.values()) or not sum(population.values()):
        return None
    share = below = above = 0.0
    for state, size in population.items():
        weight, wrong = size / sum(population.values()), answers.get(state, ())
        observed = sum(wrong) / len(wrong) if wrong else 0.0
        low, high = wilson(sum(wrong), len(wrong))
        share += weight * observed
        below += (weight * (observed - low)) ** 2
        above += (weight * (high - observed)) ** 2
    return Rate(
        wrong=sum(map(sum, answers.values())),
        asked=sum(map(len, answers.values())),
        share=share,
        low=max(0.0, share - math.sqrt(below)),
        high=min(1.0, share + math.sqrt(above)),
    )


def recent_yield(changed: Sequence[bool], *, most: int = RECENT) -> Rate | None:
    """Share of the last answers that changed the data; None without an answer.

    changed: in the order in which the answers were given.
    """
    recent = changed[-most:]
    if not recent:
        return None
    return Rate(sum(recent), len(recent), sum(recent) / len(recent), *wilson(sum(recent), len(recent)))


def should_stop(recent: Rate | None, *, least_yield: float) -> bool:
    """Whether even the upper end of what the last answers yielded is below `least_yield`."""
    return recent is not None and recent.high < least_yield


def surprise(found: int, expected: float) -> float:
    """By how much errors found so far outnumber those expected; 1 without an answer, moved by a few of them slowly."""
    return (found + PRIOR_ERRORS) / (expected + PRIOR_ERRORS)


def wilson(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided interval of a share; (0, 1) without a trial. Source: Wilson, JASA 1927."""
    if not trials:
        return 0.0, 1.0
    z = norm.ppf(0.5 + confidence / 2)
    observed = successes / trials
    centre = (observed + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(observed * (1 - observed) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


# ---------------------------------------------------------------- from verdicts


@dataclass(frozen=True)
class Answer:
    """One settled verdict about an annotated cell. given, state: 1 or 0, before and after it."""

    given: int
    state: int
    picked: bool  # asked because it looked wrong, and not for the audit
    drawn: bool  # of the random sample, whatever it was asked for
    expected: float  # P(the annotation is wrong) as the opinions see it

    @property
    def mended(self) -> bool:
        return self.state != self.given


def answers_of(
    dense: States, present_of: PresentOf, judged: ResolvedVerdicts, *, answered: Collection[Cell], seed: int
) -> list[Answer]:
    """Verdicts about cells that the annotators had settled too, oldest first; those who are not sure tell nothing.

    answered: cells that nobody is asked about any more.  seed: of the queue.
    """
    spoken_of = {verdict.image_id for verdict in judged.standing}
    rows = np.asarray([n for n, image_id in enumerate(dense.image_ids) if image_id in spoken_of], np.int64)
    part = dense.take(rows)
    wrong_NC = error_probability(present_of(rows), part.targets_NC, part.known_NC)
    position = {image_id: n for n, image_id in enumerate(part.image_ids)}
    column = {label: c for c, label in enumerate(dense.labels)}
    when: dict[Cell, datetime] = {}
    audited: set[Cell] = set()
    for verdict in judged.standing:
        cell = verdict.image_id, verdict.label
        when[cell] = max(verdict.moment, when.get(cell, verdict.moment))
        if verdict.reason == AUDIT:
            audited.add(cell)
    bars = audit_cutoff(dense, {*answered, *judged.reopened}, seed=seed)
    found = []
    for row in judged.statements.to_pylist():
        cell = row["image_id"], row["label"]
        n, c = position.get(cell[0], -1), column.get(cell[1], -1)
        if n >= 0 and c >= 0 and part.known_NC[n, c] and row["state"] != UNKNOWN_STATE:
            given = int(part.targets_NC[n, c])
            drawn = bool(lots([cell[0]], [cell[1]], seed=seed) > bars[given])
            answer = Answer(given, row["state"], cell not in audited, drawn, float(wrong_NC[n, c]))
            found.append((when[cell], cell, answer))
    return [answer for *_, answer in sorted(found, key=lambda each: each[:2])]


def audit_cutoff(dense: States, answered: Collection[Cell], *, seed: int) -> dict[int, float]:
    """given state (1, 0) -> the highest lot among the known cells of that state which nobody has answered; 0 for none.

    The answered cells above it are a random sample of the state's cells: all of them that stand there were answered,
    whether the audit drew them or the queue. The audit's own answers are not: what looks wrong was asked before, and
    a later audit draws from the rest.
    """
    unanswered_NC = open_cells(dense, answered) & dense.known_NC
    bars = {PRESENT: 0.0, ABSENT: 0.0}
    for start in range(0, len(dense.image_ids), BLOCK):
        rows = slice(start, start + BLOCK)
        lot_BC = lots(dense.image_ids[rows], dense.labels, seed=seed)
        for state in bars:
            there_BC = unanswered_NC[rows] & (dense.targets_NC[rows] == state)
            bars[state] = float(lot_BC.max(where=there_BC, initial=bars[state]))
    return bars


def review_summary(
    dense: States,
    present_of: PresentOf,
    judged: ResolvedVerdicts,
    queue: pa.Table,
    *,
    answered: Collection[Cell],
    seed: int,
) -> dict:
    """JSON-ready: what people said so far, how wrong the annotations are, what the queue promises, whether to go on."""
    answers = answers_of(dense, present_of, judged, answered=answered, seed=seed)
    audits = {g: [a.mended for a in answers if a.drawn and a.given == g] for g in (PRESENT, ABSENT)}
    population = {g: int((dense.known_NC & (dense.targets_NC == g)).sum()) for g in (PRESENT, ABSENT)}
    rate = error_rate(audits, population)
    picked = [a for a in answers if a.picked]
    recent = recent_yield([a.mended for a in picked])
    ratio = surprise(sum(a.mended for a in picked), sum(a.expected for a in picked))
    return {
        "cells": judged.statements.num_rows,
        "conflicts": len(judged.conflicts),
        "unmatched": len(judged.unmatched),
        "ask_again": len(judged.ask_again),
        "agreement": kappas(judged.standing),
        "error_rate": asdict(rate) if rate else None,
        "expected_errors": {n: ratio * count for n, count in expected_errors(queue).items()},
        "recent_yield": asdict(recent) if recent else None,
        "stop": should_stop(recent, least_yield=LEAST_YIELD),
    }
