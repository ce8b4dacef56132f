"""P(present) of every (image, label) pair from several weak label sources and an imperfect annotation.

Axes: N images, C labels, F features. A source gives a score in [0, 1] a pair, NaN where it abstains. The annotation is
one more imperfect source, with each label's false-negative and false-positive rate (rates.py). A logistic regression
combines the sources; it is fitted to the annotations through those rates, so that it predicts what is present and not
what was annotated. No truth is used.

Sources: Bootkrajang & Kaban, ECML PKDD 2012 (logistic regression under label noise); Patrini et al., CVPR 2017 (the
same loss as "forward correction"; anchor points); Raykar et al., JMLR 2010 (annotators' error rates).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from tasks.cleaning.dependence import repeats_annotations
from tasks.cleaning.rates import (
    LARGEST_RATE,
    Anchors,
    AnnotationRates,
    Interval,
    annotation_log_odds,
    count_anchors,
    lowest,
    pooled_shares,
    too_weak,
    usable,
)
from tasks.cleaning.skill import skill_of
from tasks.cleaning.slips import Slips, find_slips

ROUNDS = 2  # of estimating the error rates and fitting again; later rounds drift upwards
NEWTON_STEPS = 12
LARGEST_STEP = 2.0  # of a weight in one Newton step, in log odds
SHARED_RIDGE = 1e-2
LABEL_RIDGE = 10.0  # pull of a label's own weights towards those of all labels, in observations
EVIDENCE_UNIT = 2.0  # log odds; halved, so that the pull on the weights of evidence is four times that on the offset
PROBABILITY_RANGE = (1e-3, 1 - 1e-3)
MOST_ENTRIES = 2_000_000  # to learn from: more cost time and memory, and gain no accuracy


@dataclass(frozen=True)
class Calibrator:
    """A source's score -> evidence for presence in log odds: monotone, piecewise linear.

    abstention_informative: whether the source scored some of the pairs that it was learned from and not others; else
    nothing is known of what it means that it abstains, or that it has a score at all.
    """

    scores: np.ndarray
    log_odds: np.ndarray
    abstention_informative: bool

    def __call__(self, scores_NC: np.ndarray) -> np.ndarray:
        """Evidence in log odds, 0 where the source abstains."""
        return np.nan_to_num(np.interp(scores_NC, self.scores, self.log_odds), nan=0.0)


@dataclass(frozen=True)
class NoiseModel:
    """What `fit_noise` learned. shared_F: weights of all labels.  label_CF: what each label adds to them.

    rates: by which annotations are weighed; at most LARGEST_RATE where the sources are too `weak` a measure.
    false_negative, false_positive: of each label, as the anchors show them.  skill: of the sources, on each label.
    repeats: of each source, whether it repeats the annotations; one that does has no weight.
    slips: names given in place of others, None where the errors of an image look independent.
    independent_C: bool (C,), labels scored by a source that has not learned from these annotations. Where the weights
        of such a label are unlike the others', nothing tells whether the sources see it otherwise, or the annotators
        miss what the sources see less clearly (small things, say), so P(present) is the mean of both readings.
    """

    calibrators: tuple[Calibrator, ...]
    shared_F: np.ndarray
    label_CF: np.ndarray
    rates: AnnotationRates
    false_negative: Interval | None = None
    false_positive: Interval | None = None
    skill: Interval | None = None
    anchors: Anchors | None = None
    weak: bool = False
    repeats: tuple[bool, ...] = ()
    slips: Slips | None = None
    independent_C: np.ndarray | bool = False

    def log_odds(self, source_scores: Sequence[np.ndarray], shape: tuple[int, int], *, own: bool = True) -> np.ndarray:
        """Log odds of presence by the sources alone; float64 (N, C). own: with each label's own weights."""
        weights_CF = self.shared_F + (self.label_CF if own else np.zeros_like(self.label_CF))
        log_odds_NC = np.zeros(shape)
        used = _without(source_scores, self.repeats)
        for f, feature in enumerate(_features(self.calibrators, used)):
            log_odds_NC += feature * weights_CF[:, f]
        return log_odds_NC

    def p_present(
        self,
        source_scores: Sequence[np.ndarray],
        labels_NC: np.ndarray,
        known_NC: np.ndarray,
        *,
        least: AnnotationRates | None = None,
    ) -> np.ndarray:
        """P(present) of every pair, its own annotation being one of the sources; float64 (N, C).

        Arguments as for `fit_noise`; other images than it saw, but the same labels and sources.
        least: what the rates are at least, instead of them; then slips count at their lower end as well.
        By Bayes' rule: the annotation adds its log likelihood ratio. One that no source has a score for is believed.
        """
        rates = least or self.rates
        if_annotated, if_not = annotation_log_odds(rates)
        scored_NC, annotated_NC = has_score(_without(source_scores, self.repeats), known_NC.shape), labels_NC == 1

        def by(log_odds_NC: np.ndarray) -> np.ndarray:
            added_NC = np.where(annotated_NC, if_annotated, if_not)
            if self.slips is not None:
                evidence = self.slips.least_evidence if least else self.slips.evidence
                added_NC += evidence(log_odds_NC, annotated_NC, known_NC & scored_NC, rates)
            return expit(log_odds_NC + np.where(known_NC, added_NC, 0.0))

        p_present_NC = by(self.log_odds(source_scores, known_NC.shape))
        if np.any(self.independent_C):
            p_shared_NC = by(self.log_odds(source_scores, known_NC.shape, own=False))
            p_present_NC = np.where(self.independent_C, (p_present_NC + p_shared_NC) / 2, p_present_NC)
        return np.where(known_NC & ~scored_NC, labels_NC, p_present_NC)


def error_probability(p_present_NC: np.ndarray, labels_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    """P(the annotation is wrong): 1 - P(present) where it says present, P(present) where absent, 0 where unknown."""
    p_error_NC = np.where(labels_NC == 1, 1 - p_present_NC, p_present_NC)
    return np.where(known_NC, p_error_NC, 0.0)


# ---------------------------------------------------------------- fitting


def rows_to_fit(num_images: int, num_labels: int) -> np.ndarray:
    """Positions of the images that `fit_noise` needs, evenly spread; all of them up to MOST_ENTRIES pairs."""
    return np.linspace(0, num_images - 1, min(num_images, MOST_ENTRIES // max(num_labels, 1))).astype(np.int64)


def fit_noise(source_scores: Sequence[np.ndarray], labels_NC: np.ndarray, known_NC: np.ndarray) -> NoiseModel:
    """Learn from the annotations how far each source and the annotations themselves are to be believed.

    source_scores: float arrays (N, C) in [0, 1], NaN where a source abstains. Model scores must be out of fold.
    labels_NC: uint8 (N, C) {0, 1}, as annotated.  known_NC: bool (N, C); unknown pairs teach nothing.
    """
    annotated_NC = labels_NC == 1
    fit_NC = known_NC & has_score(source_scores, known_NC.shape)
    calibrators = [_fit_calibrator(scores_NC, annotated_NC, fit_NC, AnnotationRates()) for scores_NC in source_scores]
    evidence = [calibrate(s) for calibrate, s in zip(calibrators, source_scores, strict=True)]
    repeats = repeats_annotations(source_scores, evidence, annotated_NC, fit_NC)
    source_scores = _without(source_scores, repeats)
    fit_NC = known_NC & has_score(source_scores, known_NC.shape)

    rates = AnnotationRates()
    for _ in range(ROUNDS):
        shared_NC, own_NC = _held_out_log_odds(source_scores, annotated_NC, fit_NC, rates)
        anchors = count_anchors(shared_NC, annotated_NC, fit_NC)
        false_negative = pooled_shares(anchors.missing, anchors.present)
        false_positive = pooled_shares(anchors.mistaken, anchors.absent)
        rates = usable(false_negative.mean, false_positive.mean)
        if weak := too_weak(anchors):
            share_C = anchors.positives / np.maximum(anchors.pairs, 1)
            rates = usable(
                np.minimum(false_negative.mean, LARGEST_RATE), np.minimum(false_positive.mean, LARGEST_RATE * share_C)
            )
    return replace(
        _fit(source_scores, annotated_NC, fit_NC, rates),
        false_negative=false_negative,
        false_positive=false_positive,
        skill=skill_of(own_NC, annotated_NC, fit_NC),
        anchors=anchors,
        weak=weak,
        repeats=tuple(repeats),
        slips=None if weak else find_slips(own_NC, annotated_NC, fit_NC, rates, lowest(false_negative, false_positive)),
    )


def _without(source_scores: Sequence[np.ndarray], repeats: Sequence[bool]) -> list[np.ndarray]:
    """Sources that repeat the annotations abstain."""
    pairs = zip(source_scores, repeats or [False] * len(source_scores), strict=True)
    return [np.full(scores_NC.shape, np.nan) if repeated else scores_NC for scores_NC, repeated in pairs]


def _held_out_log_odds(
    source_scores: Sequence[np.ndarray], annotated_NC: np.ndarray, fit_NC: np.ndarray, rates: AnnotationRates
) -> np.ndarray:
    """Log odds of presence by the sources, float64 (2, N, C): by the weights of all labels, and with each label's own.

    Each half of the images is scored by a model of the other: one that has seen the errors follows some of them.
    """
    log_odds_2NC = np.zeros((2, *annotated_NC.shape))
    for half in (slice(0, None, 2), slice(1, None, 2)):
        other = slice(1 - half.start, None, 2)
        model = _fit([s[other] for s in source_scores], annotated_NC[other], fit_NC[other], rates)
        scores = [s[half] for s in source_scores]
        for k, own in enumerate((False, True)):
            log_odds_2NC[k, half] = model.log_odds(scores, annotated_NC[half].shape, own=own)
    return log_odds_2NC


def _fit(
    source_scores: Sequence[np.ndarray], annotated_NC: np.ndarray, fit_NC: np.ndarray, rates: AnnotationRates
) -> NoiseModel:
    """Everything but the error rates, which are given. fit_NC: bool, pairs to learn from."""
    calibrators = tuple(_fit_calibrator(scores_NC, annotated_NC, fit_NC, rates) for scores_NC in source_scores)
    features = _features(calibrators, source_scores)
    features_NCF = np.stack([np.broadcast_to(feature, annotated_NC.shape) for feature in features], axis=-1)
    return NoiseModel(calibrators, *_fit_weights(features_NCF, annotated_NC, fit_NC, rates), rates)


def _features(calibrators: Sequence[Calibrator], source_scores: Sequence[np.ndarray]) -> Iterator[np.ndarray | float]:
    """1, then each source's evidence (N, C) and whether it abstains, (N, C) or 0 where that means nothing."""
    yield 1.0
    for calibrator, scores_NC in zip(calibrators, source_scores, strict=True):
        yield calibrator(scores_NC) / EVIDENCE_UNIT
        yield np.isnan(scores_NC).astype(np.float64) if calibrator.abstention_informative else 0.0


def _fit_calibrator(
    scores_NC: np.ndarray, annotated_NC: np.ndarray, fit_NC: np.ndarray, rates: AnnotationRates
) -> Calibrator:
    """Isotonic regression of presence on a score, over all labels, by targets whose mean is that of the truth.

    Source: Natarajan et al., NeurIPS 2013 (unbiased estimators under label noise with rates of each class).
    """
    used_NC = fit_NC & ~np.isnan(scores_NC)
    if not used_NC.any():
        return Calibrator(np.zeros(1), np.zeros(1), abstention_informative=False)
    present_NC = (annotated_NC - rates.false_positive) / rates.informedness
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(scores_NC[used_NC], present_NC[used_NC])
    p_present = np.append(fitted.y_thresholds_, present_NC[used_NC].mean())
    *log_odds, prior = logit(np.clip(p_present, *PROBABILITY_RANGE))
    informative = bool((fit_NC & ~used_NC).any())
    return Calibrator(fitted.X_thresholds_.astype(np.float64), np.asarray(log_odds) - prior, informative)


def _fit_weights(
    features_NCF: np.ndarray, annotated_NC: np.ndarray, fit_NC: np.ndarray, rates: AnnotationRates
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum likelihood weights (F,) of all labels and (C, F) of each, of a logistic regression under label noise.

        P(present)   = sigmoid(features . (shared + label))
        P(annotated) = false_positive + informedness * P(present)

    The likelihood of the annotations is maximised with a ridge on both kinds of weight, by Fisher scoring: a Newton
    step in the shared weights, then one in each label's own, in turn.
    Sources: Bootkrajang & Kaban 2012 (the likelihood); Evgeniou & Pontil, KDD 2004 (shared + own weights).
    """
    num_labels, num_features = features_NCF.shape[1:]
    shared_F, label_CF = np.zeros(num_features), np.zeros((num_labels, num_features))
    features_CNF = np.ascontiguousarray(features_NCF.transpose(1, 0, 2))

    def derivatives() -> tuple[np.ndarray, np.ndarray]:
        p_present_NC = expit(np.einsum("ncf,cf->nc", features_NCF, shared_F + label_CF))
        return _derivatives(features_CNF, p_present_NC, annotated_NC, fit_NC, rates)

    for _ in range(NEWTON_STEPS):
        gradient_CF, information_CFF = derivatives()
        gradient_F = gradient_CF.sum(0) + SHARED_RIDGE * shared_F
        shared_F = shared_F - _newton_step(gradient_F, information_CFF.sum(0), SHARED_RIDGE)
        gradient_CF, information_CFF = derivatives()
        label_CF = label_CF - _newton_step(gradient_CF + LABEL_RIDGE * label_CF, information_CFF, LABEL_RIDGE)
    return shared_F, label_CF


def _derivatives(
    features_CNF: np.ndarray,
    p_present_NC: np.ndarray,
    annotated_NC: np.ndarray,
    fit_NC: np.ndarray,
    rates: AnnotationRates,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (C, F) and Fisher information (C, F, F) of the negative log likelihood in a label's weights.

    With a = P(annotated) and its slope s = informedness * p * (1 - p) in the log odds of p = P(present):
    gradient = sum (a - annotated) s / (a (1 - a)) x,  information = sum s^2 / (a (1 - a)) x x'.
    """
    p_annotated_NC = np.clip(rates.false_positive + rates.informedness * p_present_NC, 1e-9, 1 - 1e-9)
    slope_NC = rates.informedness * p_present_NC * (1 - p_present_NC)
    weight_NC = slope_NC * fit_NC / (p_annotated_NC * (1 - p_annotated_NC))
    gradient_CN = ((p_annotated_NC - annotated_NC) * weight_NC).T
    weighted_CNF = features_CNF * (slope_NC * weight_NC).T[:, :, None]
    return (gradient_CN[:, None] @ features_CNF)[:, 0], features_CNF.transpose(0, 2, 1) @ weighted_CNF


def _newton_step(gradient: np.ndarray, information: np.ndarray, ridge: float) -> np.ndarray:
    """(information + ridge * I)^-1 gradient, clipped; for one weight vector (F,) or one a label (C, F)."""
    matrix = information + ridge * np.eye(information.shape[-1])
    return np.clip(np.linalg.solve(matrix, gradient[..., None])[..., 0], -LARGEST_STEP, LARGEST_STEP)


def has_score(source_scores: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """bool (N, C): at least one source has a score for the pair."""
    scored_NC = np.zeros(shape, bool)
    for scores_NC in source_scores:
        scored_NC |= ~np.isnan(scores_NC)
    return scored_NC
