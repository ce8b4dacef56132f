"""Labels lost where the pictures show them: on dark ones, or wherever another label is annotated.

Whether such images lack the label by nature (no beach at night) or by an omission, the pictures tell, by embeddings
that have not seen these annotations. With S images on which c is never annotated, and P(c) by logistic regressions on
the embeddings, each image scored by one that has not learned from it:

    surprise  -sum over S of log(1 - P(c)), of regressions that take the absences on S for true
    expected  mean over S of P(c), of regressions that have not learned from S, over the share of c outside S
    cost      in log likelihood, over all images, of taking the absences on S for true

c is missing on S where such a surprise is no chance, and S looks as if c were there nearly as often as elsewhere.
Labels that look alike or are seen in like places surprise little, since the regressions learn to tell them apart. S is

    a run in an order  the images by brightness, colour, saturation, or by how many other labels are annotated on them,
                       where the run is longer than chance allows (gaps.py)
    beside another     the images with d, where c and d are never together. Either they exclude each other, or one was
                       left out wherever the other is: of the two ways round the one whose absences cost more is meant,
                       or both where that is level

Axes: N images, M images of a source, C labels, D of an embedding, F features, T tones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tasks.core.gaps import CHANCE, MIN_POSITIVES, MOST_LABELS, Gap, by_source, find_gaps, longest_runs, without
from tasks.core.prediction_table import Predictions
from tasks.core.states import States
from tasks.core.tables import PRESENT, UNKNOWN_STATE

TONES = ("brightness", "colour", "saturation")
MOST_IMAGES = 20_000  # of a source, to learn from; of more an even part
COMPONENTS = 200  # principal ones of the embeddings
INVERSE_RIDGE = 0.02  # scikit-learn's C
LINEAR_RIDGE = 100.0
MOST_PAIRS = 100  # of labels that are never together
FOLDS = 3
LEAST_SURPRISE = -np.log(CHANCE)
LEAST_SURPRISE_BESIDE = -np.log(1e-5)  # where people are only asked, and the cost is LEAST_SURPRISE at least
LEAST_EXPECTED = 0.6  # times the share elsewhere; cats and cows, which exclude each other on VOC 2012, reach 0.54
LEVEL = 0.75  # of the larger cost
KEPT = 0.1  # of the positives of a run by tone: others measure brightness otherwise


class Shown(NamedTuple):
    """What the pictures show.

    embeddings_MD: float, best of a model that has not learned these annotations; None without one.
    tones_MT: float32, those of TONES in [0, 255], see `tasks.training.folds.tones`; None where nobody looked.
    row_N: row there of each image of the states, int64; -1 of one that has none.
    """

    embeddings_MD: np.ndarray | None
    tones_MT: np.ndarray | None
    row_N: np.ndarray

    @classmethod
    def of(cls, out_of_fold: Predictions, states: States) -> Shown:
        """By the embeddings and tones that `out_of_fold` left."""
        return cls(out_of_fold.embeddings_ND, out_of_fold.tones_NT, out_of_fold.rows_of(states.image_ids))


@dataclass(frozen=True)
class _Evidence:
    """That c is missing on some images. share: of these, on which it is expected."""

    surprise: float = 0.0
    expected: float = 0.0
    share: float = 0.0
    cost: float = 0.0

    def of_a_run(self) -> bool:
        return self.surprise >= LEAST_SURPRISE and self.expected >= LEAST_EXPECTED

    def of_a_pair(self) -> bool:
        """Of the two ways round one must be so."""
        dear = self.surprise >= LEAST_SURPRISE_BESIDE and self.cost >= LEAST_SURPRISE
        return dear and self.expected >= LEAST_EXPECTED


def all_gaps(states: States, images: pa.Table, coverage: pa.Table, shown: Shown) -> list[Gap]:
    """Those of `find_gaps`, and then those that the pictures show. Arguments as for `gaps_shown`."""
    gaps = find_gaps(states, images, coverage)
    return gaps + gaps_shown(without(states, gaps), images, coverage, shown)


def gaps_shown(states: States, images: pa.Table, coverage: pa.Table, shown: Shown) -> list[Gap]:
    """By source and label; none without embeddings that are finite and differ.

    images, coverage: as for `find_gaps`.
    """
    gaps = []
    for source, of_source, columns in by_source(states, images, coverage):
        rows = of_source[shown.row_N[of_source] >= 0]
        if shown.embeddings_MD is None or not columns or not len(rows):
            continue
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_IMAGES)).astype(np.int64)]
        embeddings_MD = shown.embeddings_MD[shown.row_N[rows]].astype(np.float32)
        finite_M = np.isfinite(embeddings_MD).all(axis=1)
        rows, embeddings_MD = rows[finite_M], embeddings_MD[finite_M]
        if len(rows) < 2 * MIN_POSITIVES or not np.ptp(embeddings_MD, axis=0).any():
            continue
        here = _Source(source, of_source, columns, rows, _reduced(embeddings_MD))
        in_orders = here.gaps_in_orders(states, shown)
        gaps += in_orders + here.gaps_beside(without(states, in_orders))
    return gaps


@dataclass(frozen=True)
class _Source:
    """of_source: positions of its images, int64; columns: of the labels that may have a gap.

    rows: positions of the images to learn from, with features float64 (M, F).
    """

    name: str
    of_source: np.ndarray
    columns: Sequence[int]
    rows: np.ndarray
    features_MF: np.ndarray

    def gaps_in_orders(self, states: States, shown: Shown) -> list[Gap]:
        """At most one a label and order."""
        gaps: list[Gap] = []
        for where, values_of, kept in self._orders(states, shown):
            left = without(states, gaps)
            pictures, held = _Pictures(self.features_MF, left.states_NC[self.rows]), []
            for c in self.columns:
                value_N = values_of(c)
                for run in self._runs(left, c, self.rows, value_N, kept):
                    evidence = pictures.evidence(c, np.isin(self.rows, run.rows))
                    held += [(c, value_N, evidence)] if evidence.of_a_run() else []
            if len(held) > MOST_LABELS * pictures.num_common:
                continue
            for c, value_N, evidence in held:
                for run in self._runs(left, c, self.of_source, value_N, kept):
                    span = where.format(*value_N[run.rows[[0, -1]]])
                    looks = f"{span}, which look as if {evidence.share:.0%} had it"
                    gaps.append(Gap(self.name, run.label, run.rows, looks, only_asked=kept == 0))
        return gaps

    def _orders(self, states: States, shown: Shown) -> Iterator[tuple[str, Callable[[int], np.ndarray], float]]:
        """In words; values float (N,) for a column, NaN of an image that has none; `kept` of its runs."""
        if shown.tones_MT is not None:
            for tone, name in enumerate(TONES):
                value_N = np.where(shown.row_N >= 0, shown.tones_MT[shown.row_N, tone], np.nan)
                yield f"nearly all of {name} {{:.0f}} to {{:.0f}}", lambda c, value_N=value_N: value_N, KEPT
        count_N = np.zeros(len(states.image_ids))
        for c in range(len(states.labels)):
            count_N += states.states_NC[:, c] == PRESENT
        yield "{:.0f} to {:.0f} other labels", lambda c: count_N - (states.states_NC[:, c] == PRESENT), 0.0

    def _runs(self, states: States, c: int, rows: np.ndarray, value_N: np.ndarray, kept: float) -> list[Gap]:
        has_value = rows[~np.isnan(value_N[rows])]
        in_order = has_value[np.argsort(value_N[has_value], kind="stable")]
        return longest_runs(states, [c], self.name, in_order, value_N, kept=kept)

    def gaps_beside(self, states: States) -> list[Gap]:
        """Of the pairs of labels that are never together."""
        gaps, labels = [], states.labels
        pictures = _Pictures(self.features_MF, states.states_NC[self.rows])
        held = []
        for one, other in pictures.never_together():
            ways = [(c, d, pictures.evidence(c, pictures.present_MC[:, d])) for c, d in ((one, other), (other, one))]
            if not any(evidence.of_a_pair() for _, _, evidence in ways):
                continue
            ways = [way for way in ways if way[2].expected >= LEAST_EXPECTED]
            dearest = max((evidence.cost for _, _, evidence in ways), default=0.0)
            held += [way for way in ways if way[2].cost >= LEVEL * dearest and way[0] in self.columns]
        if len({c for c, _, _ in held}) > MOST_LABELS * pictures.num_common:
            return []  # a label an image, say, and nobody declared it
        for c, d, evidence in held:
            state_M, beside_M = (states.states_NC[self.of_source, k] for k in (c, d))
            if ((state_M == PRESENT) & (beside_M == PRESENT)).any():  # on an image that was left out
                continue
            where = f"those with '{labels[d]}', which look as if {evidence.share:.0%} had it"
            beside = self.of_source[(state_M != UNKNOWN_STATE) & (beside_M == PRESENT)]
            gaps.append(Gap(self.name, labels[c], beside, where, only_asked=True))
        return gaps


def _reduced(embeddings_MD: np.ndarray) -> np.ndarray:
    """Principal components of variance 1, float64 (M, F)."""
    from sklearn.decomposition import PCA

    most = max(1, min(COMPONENTS, *(size // 2 for size in embeddings_MD.shape)))
    pca = PCA(most, whiten=True, svd_solver="randomized", random_state=0)
    return pca.fit_transform(embeddings_MD).astype(np.float64)


class _Pictures:
    """What the images of a source look like, float64 (M, F), and what is annotated, int8 (M, C)."""

    def __init__(self, features_MF: np.ndarray, states_MC: np.ndarray) -> None:
        self.features_MF = features_MF
        self.present_MC, self.known_MC = states_MC == PRESENT, states_MC != UNKNOWN_STATE
        self.positives_C = self.present_MC.sum(axis=0)
        self.num_common = int((self.positives_C >= MIN_POSITIVES).sum())

    def never_together(self) -> list[tuple[int, int]]:
        """Pairs of labels, c < d, of which a linear regression without the images of one expects the other there.

        At most MOST_PAIRS, of which it expects most.
        """
        common = np.flatnonzero(self.positives_C >= MIN_POSITIVES)
        x_MF = np.column_stack([np.ones(len(self.features_MF)), self.features_MF])
        y_MC = self.present_MC[:, common].astype(np.float64)
        gram_FF = x_MF.T @ x_MF + np.diag([1e-3, *np.full(x_MF.shape[1] - 1, LINEAR_RIDGE)])
        product_FC = x_MF.T @ y_MC
        expected_of: dict[tuple[int, int], float] = {}
        for column, d in enumerate(common.tolist()):
            beside = np.flatnonzero(y_MC[:, column])
            x_KF, y_KC = x_MF[beside], y_MC[beside]
            weights_FC = np.linalg.solve(gram_FF - x_KF.T @ x_KF, product_FC - x_KF.T @ y_KC)
            expected_C = x_KF.sum(axis=0) @ weights_FC
            for k in np.flatnonzero((y_KC.sum(axis=0) == 0) & (expected_C >= LEAST_SURPRISE_BESIDE)):
                pair = (min(int(common[k]), d), max(int(common[k]), d))
                expected_of[pair] = max(float(expected_C[k]), expected_of.get(pair, 0.0))
        return sorted(expected_of, key=lambda pair: (-expected_of[pair], pair))[:MOST_PAIRS]

    def evidence(self, c: int, on_M: np.ndarray) -> _Evidence:
        """That c, which is never annotated there, is missing on some images, bool (M,).

        None at all where c is on nearly all images elsewhere, or unknown on all of these.
        """
        known_M = self.known_MC[:, c]
        believed, elsewhere = np.flatnonzero(known_M), np.flatnonzero(known_M & ~on_M)
        if (~self.present_MC[elsewhere, c]).sum() < MIN_POSITIVES or not (known_M & on_M).any():
            return _Evidence()
        loss_K, loss_L = self._losses(believed, c), self._losses(elsewhere, c)
        share = self._fitted(elsewhere, c).predict_proba(self.features_MF[known_M & on_M])[:, 1].mean()
        return _Evidence(
            surprise=float(loss_K[on_M[believed]].sum()),
            expected=float(share / self.present_MC[elsewhere, c].mean()),
            share=float(share),
            cost=float(loss_K.sum() - loss_L.sum()),
        )

    def _losses(self, rows: np.ndarray, c: int) -> np.ndarray:
        """-log likelihood of each image's annotation, by a regression on the other folds."""
        from sklearn.model_selection import StratifiedKFold

        loss_K, y_K = np.zeros(len(rows)), self.present_MC[rows, c]
        for others, own in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(rows, y_K):
            log_p_K2 = self._fitted(rows[others], c).predict_log_proba(self.features_MF[rows[own]])
            loss_K[own] = -np.where(y_K[own], log_p_K2[:, 1], log_p_K2[:, 0])
        return loss_K

    def _fitted(self, rows: np.ndarray, c: int):
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=INVERSE_RIDGE, max_iter=50)
        return model.fit(self.features_MF[rows], self.present_MC[rows, c])
