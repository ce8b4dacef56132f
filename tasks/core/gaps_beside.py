"""Labels that are lost wherever another one is annotated: every person beside a horse, say.

Of two labels that are never annotated on one image, either they exclude each other, or one of them was left out
wherever the other one is. The pictures tell, by embeddings that have not seen these annotations. With S the images on
which d is annotated and c never is, and P(c) by logistic regressions on the embeddings, each image scored by one that
has not learned from it:

    surprise  -sum over S of log(1 - P(c)), of regressions that take the absences on S for true
    expected  mean over S of P(c), of regressions that have not learned from S, over the share of c outside S
    cost      in log likelihood, over all images, of taking the absences on S for true

c is missing on S where such a surprise is no chance, and S looks as if c were there nearly as often as elsewhere.
Labels that look alike or are seen in like places surprise little, since the regressions learn to tell them apart. Of
the two ways round the one whose absences cost more is meant, or both where that is level.

Axes: M images of a source, C labels, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.core.gaps import CHANCE, MIN_POSITIVES, MOST_LABELS, Gap, by_source, find_gaps, without
from tasks.core.states import States
from tasks.core.tables import PRESENT, UNKNOWN_STATE

MOST_IMAGES = 20_000  # of a source, to learn from; of more an even part
COMPONENTS = 200  # principal ones of the embeddings
INVERSE_RIDGE = 0.02  # scikit-learn's C
LINEAR_RIDGE = 100.0
MOST_PAIRS = 100  # of labels that are never together
FOLDS = 3
LEAST_SURPRISE = -np.log(CHANCE)
LEAST_EXPECTED = 2 / 3  # times the share elsewhere; cats and cows, which exclude each other on VOC 2012, reach 0.53
LEVEL = 0.75  # of the larger cost


@dataclass(frozen=True)
class _Evidence:
    """That c is missing beside d."""

    c: int
    d: int
    surprise: float
    expected: float
    share: float  # of the images with d, on which c is expected
    cost: float

    @property
    def holds(self) -> bool:
        return self.surprise >= LEAST_SURPRISE and self.expected >= LEAST_EXPECTED


def all_gaps(
    states: States, images: pa.Table, coverage: pa.Table, embeddings_MD: np.ndarray | None, row_N: np.ndarray
) -> list[Gap]:
    """Those of `find_gaps`, and then those beside other labels. Arguments as for `gaps_beside`."""
    gaps = find_gaps(states, images, coverage)
    return gaps + gaps_beside(without(states, gaps), images, coverage, embeddings_MD, row_N)


def gaps_beside(
    states: States, images: pa.Table, coverage: pa.Table, embeddings_MD: np.ndarray | None, row_N: np.ndarray
) -> list[Gap]:
    """By source and label; none without embeddings that are finite and differ.

    images, coverage: as for `find_gaps`.  embeddings_MD: float, best of a model that has not learned these annotations.
    row_N: row there of each image of `states`, int64; -1 of one that has none.
    """
    gaps = []
    for source, of_source, columns in by_source(states, images, coverage):
        rows = of_source[row_N[of_source] >= 0]
        if embeddings_MD is None or not columns or not len(rows):
            continue
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_IMAGES)).astype(np.int64)]
        shown_MD = embeddings_MD[row_N[rows]].astype(np.float32)
        finite_M = np.isfinite(shown_MD).all(axis=1)
        rows, shown_MD = rows[finite_M], shown_MD[finite_M]
        if len(rows) < 2 * MIN_POSITIVES or not np.ptp(shown_MD, axis=0).any():
            continue
        pictures = _Pictures(_reduced(shown_MD), states.states_NC[rows])
        held = _evidence(pictures, set(columns))
        with_gap = {evidence.c for evidence in held}
        if len(with_gap) > MOST_LABELS * (pictures.positives_C >= MIN_POSITIVES).sum():
            continue  # a label an image, say, and nobody declared it
        for evidence in held:
            state_N, beside_N = (states.states_NC[of_source, k] for k in (evidence.c, evidence.d))
            if ((state_N == PRESENT) & (beside_N == PRESENT)).any():  # on an image that was left out
                continue
            where = f"those with '{states.labels[evidence.d]}', which look as if {evidence.share:.0%} had it"
            beside = of_source[(state_N != UNKNOWN_STATE) & (beside_N == PRESENT)]
            gaps.append(Gap(source, states.labels[evidence.c], beside, where, only_asked=True))
    return gaps


def _evidence(pictures: _Pictures, columns: set[int]) -> list[_Evidence]:
    """Of the pairs of labels that are never together. columns: of the labels that may have a gap."""
    held = []
    for c, d in pictures.candidates():
        ways = [e for e in (pictures.evidence(c, d), pictures.evidence(d, c)) if e.holds]
        dearest = max((e.cost for e in ways), default=0.0)
        held += [e for e in ways if e.cost >= LEVEL * dearest and e.c in columns]
    return held


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

    def candidates(self) -> list[tuple[int, int]]:
        """c < d, never together, of which a linear regression without the images of one expects the other there.

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
            for k in np.flatnonzero((y_KC.sum(axis=0) == 0) & (expected_C >= LEAST_SURPRISE)):
                pair = (min(int(common[k]), d), max(int(common[k]), d))
                expected_of[pair] = max(float(expected_C[k]), expected_of.get(pair, 0.0))
        return sorted(expected_of, key=lambda pair: (-expected_of[pair], pair))[:MOST_PAIRS]

    def evidence(self, c: int, d: int) -> _Evidence:
        """None at all where c is on nearly all images without d, or unknown on all with it."""
        known_M, beside_M = self.known_MC[:, c], self.present_MC[:, d]
        believed, elsewhere = np.flatnonzero(known_M), np.flatnonzero(known_M & ~beside_M)
        if (~self.present_MC[elsewhere, c]).sum() < MIN_POSITIVES or not (known_M & beside_M).any():
            return _Evidence(c, d, surprise=0.0, expected=0.0, share=0.0, cost=0.0)
        loss_K, loss_L = self._losses(believed, c), self._losses(elsewhere, c)
        share = self._fitted(elsewhere, c).predict_proba(self.features_MF[known_M & beside_M])[:, 1].mean()
        return _Evidence(
            c,
            d,
            surprise=float(loss_K[beside_M[believed]].sum()),
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
