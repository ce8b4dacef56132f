"""How well the sources know each label: average precision above chance, out of fold, against the annotations.

Axes: N images, C labels. A policy that learned from 173 photographs may know "person" and not "toaster"; that its
probabilities add up says nothing about a single label. Annotations with errors lower the figure, never raise it.

Source: Boyd, Eng & Page, ECML PKDD 2013 (logit interval of the area under the precision-recall curve).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import average_precision_score

from tasks.cleaning.rates import CONFIDENCE, Interval


def skill_of(log_odds_NC: np.ndarray, annotated_NC: np.ndarray, used_NC: np.ndarray) -> Interval:
    """(AP - share of positives) / (1 - share of positives): 1 is perfect, 0 is chance; 0 without a positive.

    log_odds_NC: presence by the sources, of a model that has not seen the image.  used_NC: bool, pairs that count.
    """
    ends = np.zeros((3, annotated_NC.shape[1]))
    half_width = norm.ppf((1 + CONFIDENCE) / 2)
    for c, used_N in enumerate(used_NC.T):
        annotated_K = annotated_NC[used_N, c]
        positives = int(annotated_K.sum())
        if positives in (0, len(annotated_K)):
            continue
        precision = np.clip(average_precision_score(annotated_K, log_odds_NC[used_N, c]), 1e-3, 1 - 1e-3)
        error = half_width / np.sqrt(positives * precision * (1 - precision))
        chance = positives / len(annotated_K)
        within = np.array([precision, *expit(logit(precision) + np.array([-error, error]))])
        ends[:, c] = (within - chance) / (1 - chance)
    return Interval(*ends)
