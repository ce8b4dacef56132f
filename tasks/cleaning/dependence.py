"""Which weak label sources repeat what the annotators say, instead of looking.

Axes: N images, C labels. A source whose errors are the annotators' own confirms them everywhere, and the regression
of noise.py would trust nothing else. It shows on pairs that another source supports so well that they are taken as
present: given the truth, errors are independent, so a source denies pairs without an annotation about as often as those
with one. A source that denies them far more often repeats the annotators.

Source: Dawid & Skene, Appl. Stat. 1979 (independence given the truth).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.cleaning.rates import LARGEST_RATE

ANCHOR_SHARE = 0.1  # of the annotated positives: as many of the pairs with the other source's highest scores
LEAST_MISSING = 20  # anchors without an annotation, or there is nothing to tell from
LEAST_SHARE = 0.05  # of the anchors: fewer may be errors of the other source
LARGEST_EXCESS = 0.25  # of denials without an annotation over those with one, beyond two standard errors


def repeats_annotations(
    source_scores: Sequence[np.ndarray], evidence: Sequence[np.ndarray], annotated_NC: np.ndarray, fit_NC: np.ndarray
) -> list[bool]:
    """Of each source. evidence: its scores as log odds (N, C), < 0 where it denies the label, 0 where it abstains."""
    repeats = [False] * len(source_scores)
    for other, scores_NC in enumerate(source_scores):
        anchors = _anchors(scores_NC, annotated_NC, fit_NC)
        if anchors is None:
            continue
        annotated_K = annotated_NC[anchors]
        for s, evidence_NC in enumerate(evidence):
            evidence_K = evidence_NC[anchors]
            without, with_one = (evidence_K[(annotated_K == a) & (evidence_K != 0)] < 0 for a in (False, True))
            if s != other and min(len(without), len(with_one)) >= LEAST_MISSING:
                shares = without.mean(), with_one.mean()
                variance = sum(p * (1 - p) / len(k) for p, k in zip(shares, (without, with_one), strict=True))
                repeats[s] |= bool(shares[0] - shares[1] - 2 * np.sqrt(variance) > LARGEST_EXCESS)
    return repeats


def _anchors(scores_NC: np.ndarray, annotated_NC: np.ndarray, fit_NC: np.ndarray) -> tuple[np.ndarray, ...] | None:
    """Positions of the pairs with the highest scores, where these can stand for the truth: few ties (a list has no
    best ones), some without an annotation, and those as often among the very best as among the next."""
    n, c = np.nonzero(fit_NC & ~np.isnan(scores_NC))
    num = round(ANCHOR_SHARE * annotated_NC[n, c].sum())
    if num < 2 * LEAST_MISSING or len(n) < 2 * num:
        return None
    best = np.argsort(-scores_NC[n, c], kind="stable")[: 2 * num]
    if len(np.unique(scores_NC[n[best], c[best]])) < num:
        return None
    first, next_ones = (~annotated_NC[n[part], c[part]] for part in (best[:num], best[num:]))
    share = first.mean()
    if first.sum() < LEAST_MISSING or not LEAST_SHARE <= share <= LARGEST_RATE + 0.1 or share < 0.7 * next_ones.mean():
        return None
    return n[best[:num]], c[best[:num]]
