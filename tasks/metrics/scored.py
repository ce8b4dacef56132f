"""One set of scores compared with one set of labels: what the metrics share, computed once.

Axes: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tasks.metrics import f1
from tasks.metrics.arithmetic import mean_over_labels, ratio
from tasks.metrics.average_precision import average_precisions, roc_auc
from tasks.metrics.calibration_error import brier_and_ece
from tasks.metrics.protocols import Protocol, Unknown
from tasks.metrics.ranking import OperatingPoints, Ranking, rank


@dataclass(frozen=True)
class Scored:
    """Scores, labels and thresholds under one protocol.

    scores_NC: float32 (N, C), finite.  targets_NC: uint8 {0, 1}.  known_NC: bool; an unknown target means nothing.
    thresholds_C: float64 (C,).
    groups: name of an exclusive group -> its columns.
    keep_order: keep what `bootstrap` needs (4 bytes an entry).
    """

    scores_NC: np.ndarray
    targets_NC: np.ndarray
    known_NC: np.ndarray
    thresholds_C: np.ndarray
    protocol: Protocol
    groups: Mapping[str, Sequence[int]] = field(default_factory=dict)
    keep_order: bool = False

    def __post_init__(self) -> None:
        shape = self.scores_NC.shape
        assert self.targets_NC.shape == shape, (self.targets_NC.shape, shape)
        assert self.known_NC.shape == shape, (self.known_NC.shape, shape)
        assert self.targets_NC.dtype == np.uint8, self.targets_NC.dtype
        assert self.known_NC.dtype == bool, self.known_NC.dtype
        assert self.thresholds_C.shape == shape[1:], self.thresholds_C.shape
        assert np.isfinite(self.scores_NC).all(), "scores must be finite"
        assert self.targets_NC.max(initial=0) <= 1, "targets are 0 or 1; known_NC marks the unknown"

    @cached_property
    def ranking(self) -> Ranking:
        """The one sort."""
        targets, known = resolve_unknown(self.targets_NC, self.known_NC, self.protocol.unknown_in_ap)
        later_first = self.protocol.ties == "later_first"
        return rank(self.scores_NC, targets, known, later_first=later_first, keep_order=self.keep_order)

    @cached_property
    def ap_points(self) -> OperatingPoints:
        """The operating points that the protocol's average precision sums over."""
        return self.ranking.points if self.protocol.ties == "grouped" else self.ranking.ranked_points

    @cached_property
    def ap_C(self) -> np.ndarray:
        """Average precision of each label, NaN where it has no positive."""
        return average_precisions(self.ap_points, self.protocol.average_precision)

    @cached_property
    def roc_auc_C(self) -> np.ndarray:
        """ROC-AUC of each label, NaN where it lacks positives or negatives."""
        return roc_auc(self.ranking.points)

    @cached_property
    def brier_ece_C(self) -> tuple[np.ndarray, np.ndarray]:
        """Brier score and ECE of each label over its known entries."""
        return brier_and_ece(self.scores_NC, self.targets_NC, self.known_NC)

    @cached_property
    def f1_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Targets and known mask that precision, recall and F1 count."""
        return resolve_unknown(self.targets_NC, self.known_NC, self.protocol.unknown_in_f1)

    @cached_property
    def decided_NC(self) -> np.ndarray:
        """bool (N, C): the labels that the thresholds accept."""
        return f1.decide(self.scores_NC, self.thresholds_C, strict=self.protocol.strict)

    @cached_property
    def f1_entries(self) -> tuple[np.ndarray, ...]:
        """True positives, predictions and positives, three bool (N, C)."""
        return f1.counted_entries(self.decided_NC, *self.f1_labels)

    @cached_property
    def label_counts(self) -> f1.Counts:
        """Counts of each label, with the protocol's reading of unknown entries and never predicted labels."""
        return self.guarded(f1.counts_along(self.f1_entries, axis=0))

    @cached_property
    def image_counts(self) -> f1.Counts:
        """Counts of each image."""
        return f1.counts_along(self.f1_entries, axis=1)

    @cached_property
    def top3_counts(self) -> f1.Counts:
        """Counts of each label when an image's three best labels are predicted, in the protocol's definition."""
        targets, known = self.f1_labels
        columns = f1.top_k(self.scores_NC, known)
        if self.protocol.top3 == "thresholded":
            columns[~np.take_along_axis(self.decided_NC, columns, axis=1)] = -1
        return self.guarded(f1.count_chosen(columns, targets, self.label_counts.positives))

    def guarded(self, counts: f1.Counts) -> f1.Counts:
        """Counts with the protocol's reading of labels that are never predicted."""
        return counts.with_one_false_prediction() if self.protocol.never_predicted == "one_false" else counts

    def class_f1(self, counts: f1.Counts) -> f1.PRF:
        """CP, CR and CF1 in the protocol's definition."""
        return f1.CLASS_F1[self.protocol.class_f1](counts, self.protocol.absent_labels)


def resolve_unknown(targets_NC: np.ndarray, known_NC: np.ndarray, unknown: Unknown) -> tuple[np.ndarray, np.ndarray]:
    """Targets and known mask after unknown entries were left alone, or made absent or present."""
    if unknown == "ignored" or known_NC.all():
        return targets_NC, known_NC
    filled = np.where(known_NC, targets_NC, np.uint8(unknown == "present"))
    return filled, np.ones_like(known_NC)


# ---------------------------------------------------------------- headline numbers, one float each


def mean_average_precision(scored: Scored) -> float:
    """mAP in the protocol's form of AP and its reading of absent labels."""
    return float(mean_over_labels(scored.ap_C, scored.protocol.absent_labels))


def mean_average_precision_absent_as_zero(scored: Scored) -> float:
    """mAP over all labels, a label without a positive counting 0 (ASL, mmcls)."""
    return float(mean_over_labels(scored.ap_C, "zero"))


def mean_average_precision_present_only(scored: Scored) -> float:
    """mAP over the labels that have a positive."""
    return float(mean_over_labels(scored.ap_C, "excluded"))


def mean_envelope_ap(scored: Scored) -> float:
    """mAP with the area under the precision envelope."""
    return float(mean_over_labels(average_precisions(scored.ap_points, "envelope"), scored.protocol.absent_labels))


def mean_eleven_point_ap(scored: Scored) -> float:
    """mAP with VOC 2007's eleven points."""
    return float(mean_over_labels(average_precisions(scored.ap_points, "eleven_point"), scored.protocol.absent_labels))


def overall_precision(scored: Scored) -> float:
    """OP."""
    return float(f1.overall(scored.label_counts).precision)


def overall_recall(scored: Scored) -> float:
    """OR."""
    return float(f1.overall(scored.label_counts).recall)


def overall_f1(scored: Scored) -> float:
    """OF1 (micro)."""
    return float(f1.overall(scored.label_counts).f1)


def class_precision(scored: Scored) -> float:
    """CP in the protocol's definition."""
    return float(scored.class_f1(scored.label_counts).precision)


def class_recall(scored: Scored) -> float:
    """CR in the protocol's definition."""
    return float(scored.class_f1(scored.label_counts).recall)


def class_f1(scored: Scored) -> float:
    """CF1 in the protocol's definition."""
    return float(scored.class_f1(scored.label_counts).f1)


def class_f1_harmonic(scored: Scored) -> float:
    """CF1 as the harmonic mean of CP and CR (ML-GCN, mmcls)."""
    return float(f1.class_harmonic(scored.label_counts, scored.protocol.absent_labels).f1)


def class_f1_mean(scored: Scored) -> float:
    """CF1 as the mean of the labels' F1 (ASL, scikit-learn's macro)."""
    return float(f1.class_mean(scored.label_counts, scored.protocol.absent_labels).f1)


def image_precision(scored: Scored) -> float:
    """Mean precision of images."""
    return float(f1.per_image(scored.image_counts).precision)


def image_recall(scored: Scored) -> float:
    """Mean recall of images."""
    return float(f1.per_image(scored.image_counts).recall)


def image_f1(scored: Scored) -> float:
    """Mean F1 of images (deep-object-reid's "class" F1, scikit-learn's samples)."""
    return float(f1.per_image(scored.image_counts).f1)


def exact_match(scored: Scored) -> float:
    """Share of images decided right on every known label."""
    return f1.exact_match(scored.decided_NC, *scored.f1_labels)


def hamming_accuracy(scored: Scored) -> float:
    """Share of known (image, label) pairs decided right; OTX 1 calls it accuracy-mlc."""
    counts = scored.image_counts
    wrong = (counts.predicted + counts.positives - 2 * counts.tp).sum()
    num_known = np.count_nonzero(scored.f1_labels[1])
    return float(1 - ratio(wrong, num_known, otherwise=np.nan))


def top3_overall_f1(scored: Scored) -> float:
    """OF1 of the three best labels of each image."""
    return float(f1.overall(scored.top3_counts).f1)


def top3_class_f1(scored: Scored) -> float:
    """CF1 of the three best labels of each image."""
    return float(scored.class_f1(scored.top3_counts).f1)


def group_accuracies(scored: Scored) -> dict[str, float]:
    """Share of images on which each exclusive group is decided right."""
    arrays = scored.scores_NC, scored.targets_NC, scored.known_NC
    return {name: f1.group_accuracy(*arrays, columns) for name, columns in scored.groups.items()}


def group_accuracy(scored: Scored) -> float:
    """Mean over exclusive groups of the share of images whose group is decided right; NaN without groups."""
    return float(mean_over_labels(np.array(list(group_accuracies(scored).values())), "excluded"))


def all_groups_accuracy(scored: Scored) -> float:
    """Share of images on which every exclusive group is decided right; NaN without groups."""
    return f1.group_accuracy(scored.scores_NC, scored.targets_NC, scored.known_NC, *scored.groups.values())


def mean_roc_auc(scored: Scored) -> float:
    """Mean ROC-AUC over labels that have positives and negatives."""
    return float(mean_over_labels(scored.roc_auc_C, "excluded"))


def brier(scored: Scored) -> float:
    """Mean Brier score over labels; NaN when scores are not in [0, 1]."""
    return float(mean_over_labels(scored.brier_ece_C[0], "excluded"))


def expected_calibration_error(scored: Scored) -> float:
    """Mean per-label ECE; NaN when scores are not in [0, 1]."""
    return float(mean_over_labels(scored.brier_ece_C[1], "excluded"))
