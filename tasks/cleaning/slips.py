"""Slips: an annotator gives a present label the name of another one, so that one is missed and one is false.

Axes: N images, C labels; in (C, C) the label that is missed comes first, the one named in its place second. The model
of noise.py takes the errors of an image for independent. Where names are confused they come in pairs: of the missed
labels a `share` has another label's name in its place, by `named` which one. Then an annotation that the sources hardly
support is the likelier to be false where a label that they support is missed on the same image, and that label the
likelier to be missed.

The share shows on pairs that the sources are sure are present. Where such a label is not annotated, other labels that
the sources do not see are annotated more often than their scores and the error rates explain; where it is annotated,
they are not. Where a label is lost wherever another one is annotated, that one is in excess as well, but mostly seen by
the sources, which under slips it is not. Of a share that could be chance nothing is believed.

Source: class-conditional label noise as a confusion matrix, Patrini et al., CVPR 2017, here between labels of which an
image may have several.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from tasks.cleaning.rates import AnnotationRates, annotation_log_odds

SURE = 0.9  # P(present) by the sources alone, of an image that they were not fitted to
LEAST_MISSED = 20  # pairs that the sources are sure of and the annotation lacks; fewer tell nothing
LEAST_SHARE = 0.05  # at the lower end, or there are no slips
LARGEST_SHARE = 0.95
STANDARD_ERRORS = 3.0  # that the lower end lies below the estimate
PRIOR_SLIPS = 5.0  # of each label, spread over all others


@dataclass(frozen=True)
class Slips:
    """share, least: of the missed labels, those with another name in their place; its estimate and its lower end.

    named_CC: which name, given the label that it stands for; each row sums to 1, the diagonal is 0.
    """

    share: float
    least: float
    named_CC: np.ndarray

    def evidence(
        self, log_odds_NC: np.ndarray, annotated_NC: np.ndarray, used_NC: np.ndarray, rates: AnnotationRates
    ) -> np.ndarray:
        """What the other annotations of the image add to the log odds of presence; float (N, C), 0 where not used.

        log_odds_NC: by the sources alone.
        """
        return self._evidence(self.share, log_odds_NC, annotated_NC & used_NC, used_NC, rates)

    def least_evidence(
        self, log_odds_NC: np.ndarray, annotated_NC: np.ndarray, used_NC: np.ndarray, rates: AnnotationRates
    ) -> np.ndarray:
        """The same at the lower end, if the sources too confuse labels, so that both pairs are wrong or neither is.

        Then no annotation of another label tells that one is missed, and none is likelier false than another missed.
        """
        annotated_NC = annotated_NC & used_NC
        evidence_NC = self._evidence(self.least, log_odds_NC, annotated_NC, used_NC, rates)
        if_annotated, if_not = annotation_log_odds(rates)
        missed_NC = np.where(used_NC & ~annotated_NC, log_odds_NC + if_not, -np.inf)
        floor_NC = np.minimum(-missed_NC.max(axis=1, keepdims=True) - log_odds_NC - if_annotated, 0.0)
        return np.where(annotated_NC, np.maximum(evidence_NC, floor_NC), np.minimum(evidence_NC, 0.0))

    def _evidence(
        self,
        share: float,
        log_odds_NC: np.ndarray,
        annotated_NC: np.ndarray,
        used_NC: np.ndarray,
        rates: AnnotationRates,
    ) -> np.ndarray:
        p_present_NC = expit(log_odds_NC)
        # Of each annotation, how much likelier it is when the label's name was given to another one than otherwise.
        p_annotated_NC = p_present_NC * (1 - rates.false_negative) + (1 - p_present_NC) * rates.false_positive
        likelier_NC = np.where(annotated_NC, (1 - p_present_NC) / p_annotated_NC, 0.0)
        if_missed_NC = np.log(1 - share + share * (likelier_NC @ self.named_CC.T))
        # Of each annotation, how often it is given although the label is absent, on this image.
        p_missed_NC = np.where(used_NC & ~annotated_NC, expit(log_odds_NC + annotation_log_odds(rates)[1]), 0.0)
        false_positive_NC = rates.false_positive + share * (p_missed_NC @ self.named_CC)
        if_annotated_NC = np.log(rates.false_positive / false_positive_NC)
        return np.where(used_NC, np.where(annotated_NC, if_annotated_NC, if_missed_NC), 0.0)


def find_slips(
    log_odds_NC: np.ndarray,
    annotated_NC: np.ndarray,
    used_NC: np.ndarray,
    rates: AnnotationRates,
    least: AnnotationRates,
) -> Slips | None:
    """None where the errors look independent, or the sources are sure of too few labels that the annotation lacks.

    log_odds_NC: by the sources alone, of a model that has not seen the image.  used_NC: bool, known pairs with a score.
    least: what the rates are at least.
    """
    p_present_NC = expit(log_odds_NC)
    annotated_NC = annotated_NC & used_NC
    expected_NC = rates.false_positive + rates.informedness * p_present_NC
    weight_NC = (1 - p_present_NC) * used_NC  # a slip gives the name of something absent
    excess_NC, variance_NC = (annotated_NC - expected_NC) * weight_NC, expected_NC * (1 - expected_NC) * weight_NC**2

    def others(weight_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        excess_CC, variance_CC = weight_NC.T @ excess_NC, (weight_NC**2).T @ variance_NC
        np.fill_diagonal(excess_CC, 0)
        np.fill_diagonal(variance_CC, 0)
        return excess_CC, variance_CC

    sure_NC = used_NC & (p_present_NC > SURE)
    missed_NC = sure_NC & ~annotated_NC
    if missed_NC.sum() < LEAST_MISSED:
        return None
    p_missed_NC = np.where(missed_NC, expit(log_odds_NC + annotation_log_odds(least)[1]), 0.0)
    excess_CC, variance_CC = others(p_missed_NC)
    beside_CC, beside_variance_CC = others((sure_NC & annotated_NC).astype(np.float64))
    per_C = (p_missed_NC.sum(axis=0) / np.maximum((sure_NC & annotated_NC).sum(axis=0), 1))[:, None]
    slips_CC = excess_CC - beside_CC * per_C
    # Of names in excess that the sources see, as many more are rightly given and overlooked as of all annotations.
    seen_NC, overlooked_NC = annotated_NC * p_present_NC, annotated_NC * (1 - p_present_NC)
    seen_CC = p_missed_NC.T @ seen_NC - per_C * ((sure_NC & annotated_NC).astype(np.float64).T @ seen_NC)
    np.fill_diagonal(seen_CC, 0)
    slips_CC -= seen_CC * overlooked_NC.sum(axis=0) / np.maximum(seen_NC.sum(axis=0), 1)
    # At worst, wherever the sources are wrong about the label that seems missed, they are so about the other one too.
    worst = (p_missed_NC * (1 - p_missed_NC)).sum()
    error = np.sqrt((variance_CC + beside_variance_CC * per_C**2).sum())
    total = (p_missed_NC**2).sum()
    share = min((slips_CC.sum() - worst) / total, LARGEST_SHARE)
    if (lowest_share := share - STANDARD_ERRORS * error / total) < LEAST_SHARE:
        return None
    named_CC = np.maximum(slips_CC, 0.0) + PRIOR_SLIPS / max(len(slips_CC) - 1, 1)
    np.fill_diagonal(named_CC, 0.0)
    return Slips(float(share), float(lowest_share), named_CC / named_CC.sum(axis=1, keepdims=True))
