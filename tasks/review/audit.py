"""What people's answers say about the annotations: the true error rate, and whether it pays to go on asking.

Axes: N images, V of them with a verdict, B images of a batch, C labels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import combinations, groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from tasks.core.states import States
from tasks.core.tables import ABSENT, PRESENT, UNKNOWN_STATE
from tasks.review.agreement import STATE_OF, Pair, ResolvedVerdicts
from tasks.review.queue import AUDIT, LEAST_YIELD, audit_keys, columns_by_image, expected_errors, positions_of
from tasks.review.verdicts import Verdict

CONFIDENCE = 0.95
RECENT = 100  # answers that tell whether the queue still pays; without any error, at least 73 bring Wilson below 0.05
BATCH_IMAGES = 20_000  # whose audit keys are drawn at a time
PRIOR_ERRORS = 10.0  # observed and expected alike, before the first answer


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

    answers: given state (1, 0) -> whether each audited annotation was wrong.  population: given state -> known pairs.
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


def surprise(num_errors: int, expected: float) -> float:
    """By how much errors so far outnumber those expected; 1 without an answer, moved by a few of them slowly."""
    return (num_errors + PRIOR_ERRORS) / (expected + PRIOR_ERRORS)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Two-sided interval of a share at CONFIDENCE; (0, 1) without a trial. Source: Wilson, JASA 1927."""
    if not trials:
        return 0.0, 1.0
    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def kappas(active: Iterable[Verdict]) -> list[dict]:
    """Agreement of every two people on the pairs of which both are sure: {"who", "pairs", "agree", "kappa"}.

    kappa: Cohen's; None where chance alone would make them agree. Source: Cohen, Educ. Psychol. Meas. 1960.
    """
    states_on: dict[Pair, dict[str, int]] = defaultdict(dict)
    for verdict in active:
        if verdict.verdict != "unsure":
            states_on[verdict.image_id, verdict.label][verdict.who] = STATE_OF[verdict.verdict]
    answers: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for by_person in states_on.values():
        for a, b in combinations(sorted(by_person), 2):
            answers[a, b].append((by_person[a], by_person[b]))
    agreement = []
    for who, both in sorted(answers.items()):
        first, second = zip(*both, strict=True)
        one_answer = len({*first, *second}) == 1
        kappa = None if one_answer else float(cohen_kappa_score(first, second))
        agree = sum(a == b for a, b in both) / len(both)
        agreement.append({"who": list(who), "pairs": len(both), "agree": agree, "kappa": kappa})
    return agreement


# ---------------------------------------------------------------- from verdicts


@dataclass(frozen=True)
class Answer:
    """A resolved verdict about an annotated pair. given, state: 1 or 0, before and after it."""

    given: int
    state: int
    picked: bool  # asked because it looked wrong, and not for the audit
    sampled: bool  # of the random sample, whatever it was asked for
    p_wrong: float  # P(the annotation is wrong) by the policy

    @property
    def mended(self) -> bool:
        return self.state != self.given


def rows_with_verdicts(states: States, active: Iterable[Verdict]) -> np.ndarray:
    """Positions of the images about which somebody has given a verdict; int64 (V,)."""
    image_ids = {verdict.image_id for verdict in active}
    return np.asarray([n for n, image_id in enumerate(states.image_ids) if image_id in image_ids], np.int64)


def answered_pairs(states: States, verdicts: ResolvedVerdicts) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 (V,) of the images with a verdict, and what people say: int8 (V, C), 1, 0, -1 for nothing."""
    rows_V = rows_with_verdicts(states, verdicts.active)
    part = states.take(rows_V)
    states_VC = np.full(part.states_NC.shape, UNKNOWN_STATE, np.int8)
    rows = zip(*(verdicts.assertions[name].to_pylist() for name in ("image_id", "label", "state")), strict=True)
    for state, pairs in groupby(sorted(rows, key=itemgetter(2)), key=itemgetter(2)):
        columns = columns_by_image(part, [(image_id, label) for image_id, label, _ in pairs])
        states_VC[positions_of(columns, part.image_ids)] = state
    return rows_V, states_VC


def answers_of(
    states: States,
    p_present_VC: np.ndarray,
    verdicts: ResolvedVerdicts,
    *,
    resolved: Collection[Pair],
    seed: int,
) -> list[Answer]:
    """Verdicts about pairs with a known annotation, oldest first; those who are not sure tell nothing.

    p_present_VC: by the policy, of the images of `rows_with_verdicts`.
    resolved: pairs that nobody is asked about any more.  seed: of the queue.
    """
    part = states.take(rows_with_verdicts(states, verdicts.active))
    row_of = {image_id: v for v, image_id in enumerate(part.image_ids)}
    column_of = {label: c for c, label in enumerate(part.labels)}
    last_verdict: dict[Pair, datetime] = {}
    audited: set[Pair] = set()
    for verdict in verdicts.active:
        pair = verdict.image_id, verdict.label
        last_verdict[pair] = max(verdict.moment, last_verdict.get(pair, verdict.moment))
        if verdict.reason == AUDIT:
            audited.add(pair)

    cutoff_of = audit_cutoffs(states, {*resolved, *verdicts.needs_review}, seed=seed)
    answers: dict[Pair, Answer] = {}
    for image_id, label, state in zip(
        *(verdicts.assertions[name].to_pylist() for name in ("image_id", "label", "state")), strict=True
    ):
        if image_id not in row_of or label not in column_of or state == UNKNOWN_STATE:
            continue
        v, c = row_of[image_id], column_of[label]
        if (given := int(part.states_NC[v, c])) == UNKNOWN_STATE:
            continue
        key = audit_keys([image_id], [label], seed=seed).item()
        p_present = float(p_present_VC[v, c])
        answers[image_id, label] = Answer(
            given=given,
            state=state,
            picked=(image_id, label) not in audited,
            sampled=key > cutoff_of[given],
            p_wrong=1 - p_present if given == PRESENT else p_present,
        )
    return [answers[pair] for pair in sorted(answers, key=lambda pair: (last_verdict[pair], pair))]


def audit_cutoffs(states: States, answered: Collection[Pair], *, seed: int) -> dict[int, float]:
    """given state (1, 0) -> the highest audit key among the known pairs of that state without an answer; 0 for none.

    The answered pairs above it are a random sample of the state's pairs: all of them that stand there were answered,
    whether the audit drew them or the queue. The audit's own answers are not: what looks wrong was asked before, and
    a later audit draws from the rest.
    """
    columns = columns_by_image(states, answered)
    cutoff_of = {PRESENT: 0.0, ABSENT: 0.0}
    for start in range(0, len(states.image_ids), BATCH_IMAGES):
        rows = slice(start, start + BATCH_IMAGES)
        image_ids = states.image_ids[rows]
        key_BC = audit_keys(image_ids, states.labels, seed=seed)
        key_BC[positions_of(columns, image_ids)] = 0.0
        for state, cutoff in cutoff_of.items():
            cutoff_of[state] = float(key_BC.max(where=states.states_NC[rows] == state, initial=cutoff))
    return cutoff_of


def review_summary(
    states: States,
    p_present_VC: np.ndarray,
    verdicts: ResolvedVerdicts,
    queue: pa.Table,
    *,
    resolved: Collection[Pair],
    seed: int,
) -> dict:
    """JSON-ready: what people said so far, how wrong the annotations are, what the queue may yield, whether to go on.

    Arguments as for `answers_of`. queue: QUEUE.
    """
    answers = answers_of(states, p_present_VC, verdicts, resolved=resolved, seed=seed)
    audited = {given: [a.mended for a in answers if a.sampled and a.given == given] for given in (PRESENT, ABSENT)}
    population = {given: int((states.states_NC == given).sum()) for given in (PRESENT, ABSENT)}
    rate = error_rate(audited, population)
    picked = [a for a in answers if a.picked]
    recent = recent_yield([a.mended for a in picked])
    ratio = surprise(sum(a.mended for a in picked), sum(a.p_wrong for a in picked))
    return {
        "pairs": verdicts.assertions.num_rows,
        "conflicts": len(verdicts.conflicts),
        "unmatched": len(verdicts.unmatched),
        "ask_again": len(verdicts.ask_again),
        "agreement": kappas(verdicts.active),
        "error_rate": asdict(rate) if rate else None,
        "expected_errors": {n: ratio * count for n, count in expected_errors(queue).items()},
        "recent_yield": asdict(recent) if recent else None,
        "stop": should_stop(recent, least_yield=LEAST_YIELD),
    }
