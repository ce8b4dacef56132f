"""People's answers, fed back into the annotators' error rates.

Axes: V images with an answer, C labels. An answer to a question that was picked by its score and its annotation is no
sample of the errors, but given both it is a fair draw from P(present): so each answer is evidence about how much an
annotation, or its absence, should add to the log odds of presence. All labels share one shift of that number, and each
has its own around it, so that answers about one label tell a little about the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from tasks.cleaning.base import Answered
from tasks.cleaning.noise import NoiseModel
from tasks.cleaning.rates import LARGEST_USED, LEAST_RATES, Interval, annotation_log_odds

SHARED_SD = 1.0  # of the shift that all labels share, in log odds
LEAST_SD = 0.3  # of a label's own shift, however narrow its interval
STEPS = 50
Z = 1.96  # half the width of a 95 % interval, in standard deviations


@dataclass(frozen=True)
class _Shift:
    """In log odds, float (C,) each."""

    mean: np.ndarray
    sd: np.ndarray
    num: np.ndarray


def with_answers(model: NoiseModel, answered: Answered) -> NoiseModel:
    """The model with the rates that the answers suggest; unchanged without an answer."""
    p_present_VC = model.p_present(answered.source_scores.all_NC, answered.labels_NC, answered.known_NC)
    log_odds_VC = logit(np.clip(p_present_VC, 1e-12, 1 - 1e-12))
    usable_VC = answered.known_NC & (answered.states_NC >= 0)
    if model.false_negative is None or model.false_positive is None or not usable_VC.any():
        return model
    annotated_VC, present_VC = answered.labels_NC == 1, answered.states_NC == 1
    if_annotated_C, if_not_C = annotation_log_odds(model.rates)
    shift_1 = _shift(log_odds_VC, present_VC, usable_VC & annotated_VC, _sd(model.false_positive))
    shift_0 = _shift(log_odds_VC, present_VC, usable_VC & ~annotated_VC, _sd(model.false_negative))
    # fn / (1 - fp) = missed and (1 - fn) / fp = trusted, solved for the two rates.
    missed_C = np.minimum(np.exp(if_not_C + shift_0.mean), 0.99)
    trusted_C = np.maximum(np.exp(if_annotated_C + shift_1.mean), 1.01)
    false_positive_C = (1 - missed_C) / (trusted_C - missed_C)
    false_negative_C = missed_C * (1 - false_positive_C)
    rates = replace(
        model.rates,
        false_negative=np.clip(false_negative_C, LEAST_RATES[0], LARGEST_USED[0]),
        false_positive=np.clip(false_positive_C, LEAST_RATES[1], LARGEST_USED[1]),
    )
    return replace(
        model,
        rates=rates,
        false_negative=_moved(model.false_negative, rates.false_negative, shift_0),
        false_positive=_moved(model.false_positive, rates.false_positive, shift_1),
    )


def _sd(interval: Interval) -> np.ndarray:
    """Standard deviation of the logarithm of a rate, by its interval."""
    ratio_C = np.maximum(interval.high, 1e-6) / np.maximum(interval.low, 1e-4)
    return np.maximum(np.log(np.maximum(ratio_C, 1.0)) / (2 * Z), LEAST_SD)


def _shift(log_odds_VC: np.ndarray, present_VC: np.ndarray, asked_VC: np.ndarray, sd_C: np.ndarray) -> _Shift:
    """Most probable shift of the log odds of each label, given the answers to what was asked."""
    own_C, shared, num_C = np.zeros(len(sd_C)), 0.0, asked_VC.sum(axis=0)
    for _ in range(STEPS):
        p_VC = expit(log_odds_VC + own_C + shared)
        gradient_C = np.where(asked_VC, present_VC - p_VC, 0.0).sum(axis=0)
        information_C = np.where(asked_VC, p_VC * (1 - p_VC), 0.0).sum(axis=0)
        step = (gradient_C.sum() - shared / SHARED_SD**2) / (information_C.sum() + 1 / SHARED_SD**2)
        shared += float(np.clip(step, -1, 1)) / 2
        own_C = own_C + np.clip((gradient_C - own_C / sd_C**2) / (information_C + 1 / sd_C**2), -1, 1) / 2
    return _Shift(own_C + shared, 1 / np.sqrt(information_C + 1 / sd_C**2), num_C)


def _moved(interval: Interval, rate_C: np.ndarray, shift: _Shift) -> Interval:
    """The interval around the new rate; as it was while nothing was asked."""
    if not shift.num.any():
        return interval
    width_C = np.exp(Z * shift.sd)
    return Interval(rate_C, rate_C / width_C, np.minimum(rate_C * width_C, 1.0))
