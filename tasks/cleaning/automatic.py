"""How far a policy may change each label without a person.

Axes: N images, C labels; a leading 2 is the annotated state, absent then present. Five limits, the first that fails is
the reason that stands in the report:

    the sources measure the annotators at all, and there are enough images
    the label has enough positives, and its rate of missed ones is below the largest that is believed
    the sources know the label (skill.py), at the lower end of the interval
    of the changes, the expected share that is right is high enough, and not much lower at the lower ends of the rates
    no label loses more than a share of its positives, a larger one where the rates say that more are false

The expected share needs no truth: it is the mean of P(annotation wrong) by the model. At the lower ends of the rates,
with a few anchors taken for impure, annotators who make no errors give none to find, whatever a source says.

A model and its neighbours have learned from the very annotations, so that what they see best shows less about the
annotators than what a vendor or a detector sees: on a label without such a source more skill is asked, more anchors are
taken for impure, and fewer of the changes may be wrong at the lower ends. And it never makes a label absent: what it
overlooks, small objects say, looks to it like annotators' errors, and nothing in its scores tells one from the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.cleaning.base import Answered
from tasks.cleaning.noise import NoiseModel, error_probability
from tasks.cleaning.rates import LARGEST_RATE, lowest, seen_overall
from tasks.cleaning.weak_sources import SourceScores

NEVER = np.inf
LEARNED_SKILL = 0.5  # least skill where all sources have learned from the annotations
USUAL_LOSS = 0.25  # of a label's positives; more only where the rates say that more are false, up to `max_loss`
LEARNED_IMPURITY = 0.3  # of the anchors then, for a source without skill; none for a perfect one
MORE_WRONG = 1.3, 2.0  # times as many of the changes may be wrong at the lower ends: for such sources, and others
STATES = ("missing", "mistaken")
"""What an annotation is when it is wrong, by its state."""


@dataclass(frozen=True)
class Limits:
    """As the options of `Consensus`."""

    accept: float
    unknown_from: float
    precision: float
    max_loss: float
    min_images: int
    min_positives: int
    skill: float


@dataclass(frozen=True)
class LabelBounds:
    """P(annotation wrong) from which a pair is changed, and made unknown; float (2, C), infinite where never.

    num_2C, expected_2C, least_2C: changes in the images learned from, the share of them that is expected to be right,
    and the same at the lower ends of the rates.  why: of each label, why it is not changed; empty where it may be.
    """

    change_2C: np.ndarray
    unknown_2C: np.ndarray
    num_2C: np.ndarray
    expected_2C: np.ndarray
    least_2C: np.ndarray
    why: Sequence[str]


def bounds_of(
    model: NoiseModel,
    limits: Limits,
    source_scores: SourceScores,
    labels_NC: np.ndarray,
    known_NC: np.ndarray,
) -> LabelBounds:
    """From the images that the model learned from. labels_NC: uint8 {0, 1}, as annotated.  known_NC: bool."""
    num_labels, scores = labels_NC.shape[1], source_scores.all_NC
    learned_C = ~np.broadcast_to(model.independent_C, num_labels)
    why = _why_not(model, limits, np.where(learned_C, LEARNED_SKILL, limits.skill), labels_NC, known_NC)
    more_impure_C = LEARNED_IMPURITY * learned_C * (1 - np.clip(model.skill.mean, 0, 1))
    least = lowest(model.false_negative, model.false_positive, more_impure_C)
    least_precision_C = 1 - np.where(learned_C, *MORE_WRONG) * (1 - limits.precision)
    p_error_NC, p_least_NC = (
        error_probability(model.p_present(scores, labels_NC, known_NC, least=rates), labels_NC, known_NC)
        for rates in (None, least)
    )
    change_2C, unknown_2C = np.full((2, 2, num_labels), NEVER)
    loss_C = _most_lost(model, limits, learned_C)
    num_2C, expected_2C, least_2C = np.zeros((2, num_labels), np.int64), *np.full((2, 2, num_labels), np.nan)
    for c in (c for c in range(num_labels) if not why[c]):
        for state in (0, 1):
            asked_N = known_NC[:, c] & (labels_NC[:, c] == state)
            order = np.argsort(-p_error_NC[asked_N, c], kind="stable")
            p_error_K, p_least_K = p_error_NC[asked_N, c][order], p_least_NC[asked_N, c][order]
            most = len(p_error_K) if state == 0 else int(loss_C[c] * len(p_error_K))
            beyond = np.nextafter(p_error_K[most], NEVER) if most < len(p_error_K) else 0.0
            unknown_2C[state, c] = max(limits.unknown_from, beyond)
            if learned_C[c] and state == 1:  # it may have overlooked the label
                continue
            change_2C[state, c] = max(_precise_from(p_error_K, p_least_K, limits, least_precision_C[c]), beyond)
            changed_K = p_error_K >= change_2C[state, c]
            num_2C[state, c] = changed_K.sum()
            if changed_K.any():
                expected_2C[state, c], least_2C[state, c] = p_error_K[changed_K].mean(), p_least_K[changed_K].mean()
    return LabelBounds(change_2C, unknown_2C, num_2C, expected_2C, least_2C, why)


def _most_lost(model: NoiseModel, limits: Limits, learned_C: np.ndarray) -> np.ndarray:
    """Share of each label's positives that may become absent or unknown; float (C,).

    More than USUAL_LOSS where the upper end of the rate says that more of them are false. Sources that have learned
    from the annotations do not measure that.
    """
    anchors = model.anchors
    false_C = model.false_positive.high * (anchors.pairs - anchors.positives) / np.maximum(anchors.positives, 1)
    return np.minimum(limits.max_loss, np.where(learned_C, USUAL_LOSS, np.maximum(USUAL_LOSS, false_C)))


def _precise_from(p_error_K: np.ndarray, p_least_K: np.ndarray, limits: Limits, least_precision: float) -> float:
    """The lowest P(annotation wrong) above which enough changes are expected to be right, >= `accept`; else NEVER.

    p_error_K: falling.  p_least_K: the same at the lower ends of the rates, where `least_precision` is enough.
    """
    num_K = np.arange(1, len(p_error_K) + 1)
    expected_K, least_K = np.cumsum(p_error_K) / num_K, np.cumsum(p_least_K) / num_K
    fits_K = (expected_K >= limits.precision) & (least_K >= least_precision)
    fits_K &= p_error_K >= limits.accept
    fits_K &= np.append(p_error_K[1:], -1.0) < p_error_K  # the last of a tie: equals are changed together
    last = np.flatnonzero(fits_K)
    return float(p_error_K[last[-1]]) if last.size else NEVER


def _why_not(
    model: NoiseModel, limits: Limits, least_skill_C: np.ndarray, labels_NC: np.ndarray, known_NC: np.ndarray
) -> list[str]:
    """Of each label, why it is not to be changed without a person; empty where it may be."""
    num_images, positives_C = int(known_NC.any(axis=1).sum()), (known_NC & (labels_NC == 1)).sum(axis=0)
    if model.weak:
        return ["the sources are no measure of the annotators"] * len(positives_C)
    if num_images < limits.min_images:
        return [f"fewer than {limits.min_images} images"] * len(positives_C)
    reasons = []
    for c, positives in enumerate(positives_C):
        if positives < limits.min_positives:
            reasons.append(f"fewer than {limits.min_positives} positives")
        elif model.skill.low[c] < least_skill_C[c]:
            reasons.append(f"the sources show too little skill ({model.skill.low[c]:.2f} < {least_skill_C[c]:g})")
        elif model.false_negative.low[c] > LARGEST_RATE:
            reasons.append(f"more than {LARGEST_RATE:.0%} of the positives seem to be missed")
        else:
            reasons.append("")
    return reasons


# ---------------------------------------------------------------- what a person is told


def messages_of(model: NoiseModel, bounds: LabelBounds) -> list[str]:
    """What the log, the ledger and the report must say."""
    messages = []
    missed, false_annotations = seen_overall(model.anchors)
    if model.weak:
        messages.append(
            f"cannot tell sources' errors from the annotators': {missed:.0%} of the positives look missed and "
            f"{false_annotations:.0%} of the annotations false, more than {LARGEST_RATE:.0%} of either is not "
            "believed; nothing is changed, the queue asks by its ranking"
        )
    elif all(bounds.why):
        messages.append(f"changes nothing without a person: {_commonest(bounds.why)}; the queue asks by its ranking")
    if model.slips is not None:
        messages.append(f"about {model.slips.share:.0%} of the missed labels have another label's name in their place")
    if any(model.repeats):
        messages.append(f"{sum(model.repeats)} of {len(model.repeats)} sources repeat the annotations and do not count")
    return messages


def _commonest(why: Sequence[str]) -> str:
    return max(sorted(set(why)), key=list(why).count) if why else "no labels"


def rows_of(model: NoiseModel, bounds: LabelBounds, answered: Answered | None) -> list[dict]:
    """JSON-ready, one row a label: rates and skill as [mean, low, high], expected precision, answers so far."""
    answers = _answers(model, answered, len(bounds.why))
    rows = []
    for c, why in enumerate(bounds.why):
        changes = {
            name: {
                "changes": int(bounds.num_2C[state, c]),
                "expected_precision": _number(bounds.expected_2C[state, c]),
                "least_precision": _number(bounds.least_2C[state, c]),
                "asked": int(answers[0, state, c]),
                "right": int(answers[1, state, c]),
            }
            for state, name in enumerate(STATES)
        }
        measures = {
            name: [_number(end[c]) for end in (interval.mean, interval.low, interval.high)]
            for name, interval in (
                ("false_negative", model.false_negative),
                ("false_positive", model.false_positive),
                ("skill", model.skill),
            )
        }
        rows.append({"positives": int(model.anchors.positives[c]), **measures, **changes, "why": why})
    return rows


def _answers(model: NoiseModel, answered: Answered | None, num_labels: int) -> np.ndarray:
    """int64 (2, 2, C): answers about annotations that look more wrong than right, and those that say so."""
    counts = np.zeros((2, 2, num_labels), np.int64)
    if answered is not None:
        p_present_VC = model.p_present(answered.source_scores.all_NC, answered.labels_NC, answered.known_NC)
        likely_VC = error_probability(p_present_VC, answered.labels_NC, answered.known_NC) > 0.5
        likely_VC &= answered.states_NC >= 0
        for state in (0, 1):
            asked_VC = likely_VC & (answered.labels_NC == state)
            counts[:, state] = asked_VC.sum(axis=0), (asked_VC & (answered.states_NC != state)).sum(axis=0)
    return counts


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
