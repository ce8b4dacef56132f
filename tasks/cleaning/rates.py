"""How often annotators miss a present label and annotate an absent one: label by label, each drawn towards the others.

Axes: C labels, K pairs of one label, G points of a grid. Nobody knows the truth; the rates come from *anchor points*:
of each label the best supported pairs are taken as present, the least supported ones as absent. The support must not
come from the label's own weights (noise.py takes those that all labels share), or a label that is often forgotten looks
rare and badly supported, and never shows it.

A label with few anchors says little by itself, so the labels' rates are draws from a common beta distribution of
unknown mean and concentration (partial pooling): labels that are alike share one rate, and one that differs, with
anchors enough to show it, keeps its own.

Sources: Patrini et al., CVPR 2017 (anchor points); Gelman et al., Bayesian Data Analysis, 3rd ed., ch. 5 (the
beta-binomial hierarchy, integrated over a grid).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import betaln
from scipy.stats import beta

ANCHOR_SHARES = (0.1, 0.3)  # of a label's annotated positives: as many best supported pairs are taken as present
LEAST_ANCHORS = 20  # of a label, as far as it has positives
ABSENT_SHARE = 0.25  # of a label's pairs: as many least supported ones are taken as absent
LEAST_RATES = (0.01, 0.001)  # nobody annotates better than this
LARGEST_RATE = 0.4  # of false negatives, or of false annotations: more means that the sources are no measure
LARGEST_USED = (0.6, 0.3)  # what is used of a larger false-negative or false-positive rate
IMPURITY = (0.02, 0.002)  # of anchors taken as present, as absent, may be the other: what the lower ends allow for
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A share of each label with its interval at CONFIDENCE; float (C,) each."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class AnnotationRates:
    """Of the annotators. false_negative: P(not annotated | present).  false_positive: P(annotated | absent).

    Float (C,), or one number of all labels.
    """

    false_negative: np.ndarray | float = 0.0
    false_positive: np.ndarray | float = 0.0

    @property
    def informedness(self) -> np.ndarray | float:
        """How much more often a present label is annotated than an absent one (Youden's J)."""
        return 1 - self.false_negative - self.false_positive


def annotation_log_odds(rates: AnnotationRates) -> tuple[np.ndarray, np.ndarray]:
    """What an annotation and its absence add to the log odds of presence."""
    if_annotated = np.log((1 - rates.false_negative) / rates.false_positive)
    return if_annotated, np.log(rates.false_negative / (1 - rates.false_positive))


@dataclass(frozen=True)
class Anchors:
    """Counts of each label, int64 (C,).

    present: pairs taken as present, `missing` of which are not annotated.  absent: pairs taken as absent, `mistaken` of
    which are annotated.  positives, pairs: annotated pairs, and all.
    """

    present: np.ndarray
    missing: np.ndarray
    absent: np.ndarray
    mistaken: np.ndarray
    positives: np.ndarray
    pairs: np.ndarray


def count_anchors(support_NC: np.ndarray, annotated_NC: np.ndarray, used_NC: np.ndarray) -> Anchors:
    """support_NC: log odds of presence by the sources.  used_NC: bool, pairs that are known and have a score."""
    rows = []
    for c, used_N in enumerate(used_NC.T):
        shuffled_K = np.random.default_rng(0).permutation(np.flatnonzero(used_N))  # no order of images in ties
        annotated_K = annotated_NC[shuffled_K, c][np.argsort(-support_NC[shuffled_K, c], kind="stable")]
        positives, pairs = int(annotated_K.sum()), len(annotated_K)
        present, missing = _present_anchors(annotated_K, positives)
        absent = int(ABSENT_SHARE * pairs)
        rows.append((present, missing, absent, annotated_K[pairs - absent :].sum(), positives, pairs))
    return Anchors(*np.asarray(rows, np.int64).reshape(-1, len(fields(Anchors))).T)


def _present_anchors(annotated_K: np.ndarray, positives: int) -> tuple[int, int]:
    """Number of anchors taken as present, and of those without the annotation. annotated_K: best supported first.

    The larger of two nested sets, unless it lacks the annotation more often by more than chance: errors of annotation
    do not depend on the support, errors of the sources do.
    """
    few, many = (
        min(max(round(share * positives), LEAST_ANCHORS), positives, len(annotated_K) // 2) for share in ANCHOR_SHARES
    )
    missing_few, missing_many = few - int(annotated_K[:few].sum()), many - int(annotated_K[:many].sum())
    if many == 0:
        return 0, 0
    share = missing_many / many
    by_chance = 2 * np.sqrt(share * (1 - share) / few)
    return (few, missing_few) if share > missing_few / few + by_chance else (many, missing_many)


def pooled_shares(successes_C: np.ndarray, trials_C: np.ndarray) -> Interval:
    """Each label's share, drawn towards the others' as far as they are alike; the common one where it has no trial."""
    grid = np.meshgrid(np.geomspace(5e-4, 0.7, 40), np.geomspace(1.0, 1000.0, 20))
    mean_G, size_G = (axis.ravel() for axis in grid)
    a_G, b_G = mean_G * size_G, (1 - mean_G) * size_G
    a_CG, b_CG = a_G + successes_C[:, None], b_G + (trials_C - successes_C)[:, None]
    log_likelihood_G = (betaln(a_CG, b_CG) - betaln(a_G, b_G)).sum(axis=0)
    weight_G = np.exp(log_likelihood_G - log_likelihood_G.max())
    weight_G /= weight_G.sum()
    mean_CG = a_CG / (a_CG + b_CG)
    mean_C = mean_CG @ weight_G
    square_C = (mean_CG * (a_CG + 1) / (a_CG + b_CG + 1)) @ weight_G
    return Interval(mean_C, *_beta_interval(mean_C, np.maximum(square_C - mean_C**2, 1e-12)))


def _beta_interval(mean_C: np.ndarray, variance_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval at CONFIDENCE of the beta distributions with these moments."""
    size_C = np.maximum(mean_C * (1 - mean_C) / variance_C - 1, 1e-3)
    tail = (1 - CONFIDENCE) / 2
    return beta.ppf(tail, mean_C * size_C, (1 - mean_C) * size_C), beta.ppf(
        1 - tail, mean_C * size_C, (1 - mean_C) * size_C
    )


def usable(false_negative: np.ndarray, false_positive: np.ndarray) -> AnnotationRates:
    """Rates that leave an annotation some meaning: within LEAST_RATES and LARGEST_USED."""
    pairs = zip((false_negative, false_positive), LEAST_RATES, LARGEST_USED, strict=True)
    return AnnotationRates(*(np.clip(rate_C, least, largest) for rate_C, least, largest in pairs))


def lowest(
    false_negative: Interval, false_positive: Interval, more_impure_C: np.ndarray | float = 0.0
) -> AnnotationRates:
    """What the rates are at least: the lower ends, when some anchors are not what they are taken for.

    more_impure_C: share of the anchors taken as present, beyond IMPURITY.
    """
    allowances = IMPURITY[0] + more_impure_C, IMPURITY[1]
    pairs = zip((false_negative, false_positive), allowances, strict=True)
    return AnnotationRates(*(np.maximum(interval.low - allowed, 1e-4) for interval, allowed in pairs))


def seen_overall(anchors: Anchors) -> tuple[float, float]:
    """Share of the positives that are missed, and of the annotations that are false, by the anchors of all labels."""
    present, absent, positives = (
        max(int(n_C.sum()), 1) for n_C in (anchors.present, anchors.absent, anchors.positives)
    )
    false_annotations = anchors.mistaken.sum() / absent * anchors.pairs.sum() / positives
    return float(anchors.missing.sum() / present), float(min(false_annotations, 1.0))


def too_weak(anchors: Anchors) -> bool:
    """Whether the sources are no measure of the annotators: without anchors, or when more than LARGEST_RATE of the
    positives seem to be missed, by more than chance, or of the annotations to be false."""
    missed, false_annotations = seen_overall(anchors)
    by_chance = 2 * np.sqrt(LARGEST_RATE * (1 - LARGEST_RATE) / max(anchors.present.sum(), 1))  # two standard errors
    return not anchors.present.any() or missed > LARGEST_RATE + by_chance or false_annotations > LARGEST_RATE
