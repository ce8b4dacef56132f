"""How likely each label is present, given several imperfect opinions and an imperfect annotation.

Axes: N images, C labels, F features. An opinion is a score in [0, 1] per cell, NaN where its source is silent; a cell
is one (image, label) pair. The annotation is one more imperfect source: it hides a share of what is present and invents
a share of what is absent (`FlipRates`). A logistic regression combines the opinions; it is fitted to the annotations
through those shares, so that it predicts what is present and not what was written down. No truth is used.

Sources: Raykar et al., JMLR 2010 (logistic regression and annotators' error rates together); Patrini et al., CVPR 2017
(forward correction, anchor cells); Northcutt et al., JAIR 2021 (self-confidence).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

ROUNDS = 2  # of estimating the flip rates and fitting again; later rounds drift upwards
NEWTON_STEPS = 12
LARGEST_STEP = 2.0  # of a weight in one Newton step, in log odds
SHARED_RIDGE = 1e-2
OWN_RIDGE = 10.0  # pull of a label's own weights towards those of all labels, in observations
EVIDENCE_UNIT = 2.0  # log odds; halved, so that the pull on the weights of evidence is four times that on the offset
PURE_SHARE = 0.1  # of the annotated positives: as many of the best supported cells are taken as truly present
MOST_WRONG = 0.4  # of positives hidden, or of annotations invented: more means that the opinions are no measure
LEAST_RATES = (0.01, 0.001)  # nobody annotates better than this
PROBABILITY_RANGE = (1e-3, 1 - 1e-3)
MOST_CELLS = 2_000_000  # to learn from: more cost time and memory, and gain no accuracy


@dataclass(frozen=True)
class FlipRates:
    """How annotations go wrong. hidden: P(not annotated | present).  invented: P(annotated | absent)."""

    hidden: float = 0.0
    invented: float = 0.0

    @property
    def signal(self) -> float:
        """How much more often a present label is annotated than an absent one."""
        return 1 - self.hidden - self.invented


@dataclass(frozen=True)
class Curve:
    """One opinion on the scale of log odds: a monotone piecewise linear function of its score.

    silence_tells: whether it spoke of some of the cells that it was learned from and not of others; otherwise nothing
    is known of what its silence, or its speaking at all, means.
    """

    scores: np.ndarray
    log_odds: np.ndarray
    silence_tells: bool

    def __call__(self, scores_NC: np.ndarray) -> np.ndarray:
        """Evidence for presence, 0 where the opinion is silent."""
        return np.nan_to_num(np.interp(scores_NC, self.scores, self.log_odds), nan=0.0)


@dataclass(frozen=True)
class NoiseModel:
    """What `fit_noise` learned. shared_F: weights of all labels.  own_CF: what each label adds to them."""

    curves: tuple[Curve, ...]
    shared_F: np.ndarray
    own_CF: np.ndarray
    rates: FlipRates

    def log_odds(self, opinions: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """Log odds of presence (N, C) by the opinions alone, without the cell's own annotation."""
        weights_CF = self.shared_F + self.own_CF
        log_odds_NC = np.zeros(shape)
        for f, feature_NC in enumerate(_features(self.curves, opinions, shape)):
            log_odds_NC += feature_NC * weights_CF[:, f]
        return log_odds_NC

    def present(self, opinions: Sequence[np.ndarray], targets_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
        """P(present) of every cell, its own annotation being one of the sources.

        opinions, targets_NC, known_NC: as for `fit_noise`; other images than it saw, but the same labels and opinions.
        Returns float64 (N, C). An annotation about which nobody has an opinion is believed.
        """
        log_odds_NC = self.log_odds(opinions, known_NC.shape)
        hidden, invented = self.rates.hidden, self.rates.invented
        if_present, if_absent = np.log((1 - hidden) / invented), np.log(hidden / (1 - invented))
        log_odds_NC += np.where(known_NC, np.where(targets_NC == 1, if_present, if_absent), 0.0)
        return np.where(known_NC & ~_heard(opinions, known_NC.shape), targets_NC, expit(log_odds_NC))


def error_probability(present_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    """P(the annotation is wrong): 1 - P(present) where it says present, P(present) where absent, 0 where unknown."""
    wrong_NC = np.where(targets_NC == 1, 1 - present_NC, present_NC)
    return np.where(known_NC, wrong_NC, 0.0)


def self_confidence(model_NC: np.ndarray, targets_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    """The model's probability of what is annotated, 1 where nothing is or the model is silent; float (N, C).

    Its negative logarithm is the cell's loss, so "large loss" ranks cells in the same order.
    """
    confidence_NC = np.where(targets_NC == 1, model_NC, 1 - model_NC)
    return np.where(known_NC & ~np.isnan(model_NC), confidence_NC, 1.0)


# ---------------------------------------------------------------- fitting


def rows_to_fit(num_images: int, num_labels: int) -> np.ndarray:
    """Positions of the images that `fit_noise` needs, evenly spread; all of them up to MOST_CELLS cells."""
    return np.linspace(0, num_images - 1, min(num_images, MOST_CELLS // max(num_labels, 1))).astype(np.int64)


def fit_noise(opinions: Sequence[np.ndarray], targets_NC: np.ndarray, known_NC: np.ndarray) -> NoiseModel:
    """Learn from the annotations how far each opinion and the annotations themselves are to be believed.

    opinions: float arrays (N, C) in [0, 1], NaN where silent. Model scores must be out of fold.
    targets_NC: uint8 (N, C) as annotated.  known_NC: bool (N, C); unknown cells teach nothing.
    """
    teach_NC = known_NC & _heard(opinions, known_NC.shape)
    given_NC = targets_NC == 1
    rates = FlipRates()
    for _ in range(ROUNDS):
        # Each half is judged by a model of the other: a model that has seen the flips follows some of them.
        log_odds_NC = np.zeros(targets_NC.shape)
        for half in (slice(0, None, 2), slice(1, None, 2)):
            other = slice(1 - half.start, None, 2)
            model = _fit([o[other] for o in opinions], given_NC[other], teach_NC[other], rates)
            log_odds_NC[half] = model.log_odds([o[half] for o in opinions], targets_NC[half].shape)
        rates = _flip_rates(log_odds_NC, given_NC, teach_NC)
    return _fit(opinions, given_NC, teach_NC, rates)


def _fit(opinions: Sequence[np.ndarray], given_NC: np.ndarray, teach_NC: np.ndarray, rates: FlipRates) -> NoiseModel:
    """Everything but the flip rates, which are given. teach_NC: bool, cells to learn from."""
    curves = tuple(_fit_curve(scores_NC, given_NC, teach_NC, rates) for scores_NC in opinions)
    features_NCF = np.stack(list(_features(curves, opinions, given_NC.shape)), axis=-1)
    return NoiseModel(curves, *_fit_weights(features_NCF, given_NC, teach_NC, rates), rates)


def _features(curves: Sequence[Curve], opinions: Sequence[np.ndarray], shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """For each feature its values (N, C): 1, then each opinion's evidence and whether it is silent."""
    yield np.ones(shape)
    for curve, scores_NC in zip(curves, opinions, strict=True):
        yield curve(scores_NC) / EVIDENCE_UNIT
        yield (np.isnan(scores_NC) & curve.silence_tells).astype(np.float64)


def _fit_curve(scores_NC: np.ndarray, given_NC: np.ndarray, teach_NC: np.ndarray, rates: FlipRates) -> Curve:
    """Calibrate a score against the annotations, isotonic over all labels, and take the flips out of the result."""
    used_NC = teach_NC & ~np.isnan(scores_NC)
    if not used_NC.any():
        return Curve(np.zeros(1), np.zeros(1), silence_tells=False)
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(scores_NC[used_NC], given_NC[used_NC])
    annotated = np.append(fitted.y_thresholds_, given_NC[used_NC].mean())
    *log_odds, prior = logit(np.clip((annotated - rates.invented) / rates.signal, *PROBABILITY_RANGE))
    silence_tells = bool((teach_NC & ~used_NC).any())
    return Curve(fitted.X_thresholds_.astype(np.float64), np.asarray(log_odds) - prior, silence_tells)


def _fit_weights(
    features_NCF: np.ndarray, given_NC: np.ndarray, teach_NC: np.ndarray, rates: FlipRates
) -> tuple[np.ndarray, np.ndarray]:
    """Weights for which P(annotated) = invented + signal * P(present) fits best: Fisher scoring, two blocks in turn."""
    num_labels, num_features = features_NCF.shape[1:]
    shared_F, own_CF = np.zeros(num_features), np.zeros((num_labels, num_features))
    features_CNF = np.ascontiguousarray(features_NCF.transpose(1, 0, 2))

    def slopes() -> tuple[np.ndarray, np.ndarray]:
        """Gradient (C, F) and Fisher information (C, F, F) of the negative log likelihood."""
        present_NC = expit(np.einsum("ncf,cf->nc", features_NCF, shared_F + own_CF))
        annotated_NC = np.clip(rates.invented + rates.signal * present_NC, 1e-9, 1 - 1e-9)
        slope_NC = rates.signal * present_NC * (1 - present_NC)
        weight_NC = slope_NC * teach_NC / (annotated_NC * (1 - annotated_NC))
        gradient_CN = ((annotated_NC - given_NC) * weight_NC).T
        information_CNF = features_CNF * (slope_NC * weight_NC).T[:, :, None]
        return (gradient_CN[:, None] @ features_CNF)[:, 0], features_CNF.transpose(0, 2, 1) @ information_CNF

    for _ in range(NEWTON_STEPS):
        gradient_CF, information_CFF = slopes()
        shared_F = shared_F - _step(gradient_CF.sum(0) + SHARED_RIDGE * shared_F, information_CFF.sum(0), SHARED_RIDGE)
        gradient_CF, information_CFF = slopes()
        own_CF = own_CF - _step(gradient_CF + OWN_RIDGE * own_CF, information_CFF, OWN_RIDGE)
    return shared_F, own_CF


def _step(gradient: np.ndarray, information: np.ndarray, ridge: float) -> np.ndarray:
    matrix = information + ridge * np.eye(information.shape[-1])
    return np.clip(np.linalg.solve(matrix, gradient[..., None])[..., 0], -LARGEST_STEP, LARGEST_STEP)


def _flip_rates(log_odds_NC: np.ndarray, given_NC: np.ndarray, teach_NC: np.ndarray) -> FlipRates:
    """From anchor cells: the best supported ones are taken as present, the less supported half as absent.

    Both groups hold some of the other kind, so weak opinions make the annotators look worse than they are; past
    MOST_WRONG, by more than chance, the estimate is worth nothing, and the annotators are believed.
    """
    given = given_NC[teach_NC][np.argsort(log_odds_NC[teach_NC], kind="stable")]
    num_pure = max(round(PURE_SHARE * given.sum()), 20)
    if len(given) < 2 * num_pure or not given.any():
        return FlipRates(*LEAST_RATES)
    hidden, invented = 1 - given[-num_pure:].mean(), given[: len(given) // 2].mean()
    by_chance = 2 * np.sqrt(MOST_WRONG * (1 - MOST_WRONG) / num_pure)  # two standard errors of `hidden`
    if hidden > MOST_WRONG + by_chance or invented > MOST_WRONG * given.mean():
        return FlipRates(*LEAST_RATES)
    return FlipRates(float(np.clip(hidden, LEAST_RATES[0], MOST_WRONG)), max(float(invented), LEAST_RATES[1]))


def _heard(opinions: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """bool (N, C): at least one opinion about the cell."""
    heard_NC = np.zeros(shape, bool)
    for scores_NC in opinions:
        heard_NC |= ~np.isnan(scores_NC)
    return heard_NC
