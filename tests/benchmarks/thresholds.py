"""Thresholds fitted on one half of a real detector's scores, tested on the other: the tables of docs/thresholds.md.

    python -m tests.benchmarks.thresholds [--halves 20] [--own]

--own: the model of `cross_fitting` in the detector's place, fitted on VOC2007 `train`; the halves are those of `val`.
Data: predictions/ of the real data kits, 4,952 VOC 2007 test images x 20 labels. `fitted on` is the share of images
that thresholds are fitted on, the rest is tested. "Rare" are labels with under 50 positives among the fitted images;
their column is the mean F1 of such labels over all divisions.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tasks.evaluation.external_scores import AlignedScores, align_scores, read_long_labels, read_long_scores
from tasks.metrics import f1
from tasks.metrics.average_precision import average_precisions
from tasks.metrics.calibration_error import brier_and_ece
from tasks.metrics.ranking import rank
from tasks.thresholds.fit import FittedThresholds, fit
from tasks.thresholds.probability_calibration import CALIBRATORS, calibrate
from tasks.thresholds.rules import (
    Fixed,
    GlobalF1,
    PerLabelF1,
    PrecisionRecallTarget,
    TargetPrecision,
    precision_lower_bound,
)

KITS = Path(__file__).resolve().parents[3] / "shared" / "data" / "predictions"
RARE = 50
PLAIN = {"min_support": 0, "shrinkage": 0.0}
CONTESTANTS = {
    "0.5 for every label": partial(fit, Fixed(), **PLAIN),
    "one threshold, best OF1": partial(fit, GlobalF1(), **PLAIN),
    "per label, best F1": partial(fit, PerLabelF1(), **PLAIN),
    **{f"per label, shrunk x {x}": partial(fit, PerLabelF1(), shrinkage=x) for x in (0.5, 1.0, 2.0)},
}
TARGETS, CONFIDENCES = (0.8, 0.9, 0.95), (0.5, 0.9, 0.95, 0.975)


def read_detector(folder: Path = KITS) -> AlignedScores:
    """The detector's scores beside VOC's labels; objects marked difficult are unknown."""
    return align_scores(
        read_long_scores(folder / "voc2007_test_detector_a.parquet"),
        read_long_labels(folder / "voc2007_test_labels.parquet"),
        absent_if_missing=False,
    )


def read_own() -> AlignedScores:
    """Scores of `val` by a regression on frozen features, fitted on `train`."""
    from tests.benchmarks.cross_fitting import features, scores_of

    with tempfile.TemporaryDirectory() as folder:
        made = features(Path(folder))
    (scores_NC,) = scores_of(tuple(made[f"train_{m}"] for m in "xtk"), made["test_x"])
    ids, labels = (list(map(str, range(count))) for count in scores_NC.shape)
    truth = made["test_t"], made["test_k"]
    return AlignedScores(ids, labels, scores_NC, *truth, np.ones(len(ids), bool), 0, {})


def rescaled(aligned: AlignedScores, spread: float) -> AlignedScores:
    """Every label ranked as before on a scale of its own: scores to a random power from 1 / spread to spread."""
    exponent_C = np.exp(np.random.default_rng(1).uniform(-np.log(spread), np.log(spread), len(aligned.labels)))
    return replace(aligned, scores_NC=(aligned.scores_NC**exponent_C).astype(np.float32))


def divisions(aligned: AlignedScores, num: int, share: float) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """`num` random divisions: the images to fit on and those to test, each scores, targets, known."""
    arrays = (aligned.scores_NC, aligned.targets_NC, aligned.known_NC)
    for seed in range(num):
        order = np.random.default_rng(seed).permutation(len(aligned.image_ids))
        fitted, tested = np.split(order, [round(share * len(order))])
        yield [m[fitted] for m in arrays], [m[tested] for m in arrays]


def f1_by_rule(aligned: AlignedScores, num: int, share: float) -> dict[str, dict[str, float]]:
    """Mean over divisions of OF1, mean F1 of labels, and mean F1 of rare labels, for each of CONTESTANTS."""
    overall: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    per_label: dict[str, list[np.ndarray]] = {name: [] for name in CONTESTANTS}
    rare: list[np.ndarray] = []
    for to_fit, to_test in divisions(aligned, num, share):
        fitted: dict[str, FittedThresholds] = {name: fit_one(*to_fit) for name, fit_one in CONTESTANTS.items()}
        rare.append(fitted["per label, best F1"].support_C < RARE)
        for name, thresholds in fitted.items():
            counts = f1.count(f1.decide(to_test[0], thresholds.values_C), *to_test[1:], axis=0)
            overall[name].append(float(f1.overall(counts).f1))
            per_label[name].append(f1.per_label(counts).f1)
    is_rare = np.array(rare)
    return {
        name: {
            "OF1": float(np.mean(overall[name])),
            "labels": float(np.mean(per_label[name])),
            "rare": float(np.mean(np.array(per_label[name])[is_rare])) if is_rare.any() else float("nan"),
            "num_rare": int(is_rare.sum()),
        }
        for name in CONTESTANTS
    }


def precision_kept(aligned: AlignedScores, num: int, target: float, confidence: float) -> dict[str, float]:
    """How often a label's target precision, reached on one half, is reached on the other.

    kept: precision on the other half >= target.  kept_within: its 95 % Wilson interval reaches the target.
    reached: share of labels that reach it.  recall: mean recall of these on the other half.
    """
    rule = TargetPrecision(precision=target, confidence=confidence)
    kept, within, reached, recall = [], [], [], []
    for to_fit, to_test in divisions(aligned, num, 0.5):
        thresholds = fit(rule, *to_fit)
        reaches = np.array([not reason for reason in thresholds.reasons])
        counts = f1.count(f1.decide(to_test[0], thresholds.values_C), *to_test[1:], axis=0)
        precision, label_recall, _ = f1.per_label(counts)
        upper = 1 - precision_lower_bound(counts.predicted - counts.tp, counts.predicted, confidence=0.975)
        kept.extend(precision[reaches] >= target)
        within.extend(upper[reaches] >= target)
        recall.extend(label_recall[reaches])
        reached.extend(reaches)
    return {
        "kept": float(np.mean(kept)),
        "kept_within": float(np.mean(within)),
        "reached": float(np.mean(reached)),
        "recall": float(np.mean(recall)),
    }


def delivered(aligned: AlignedScores, num: int, confidence: float) -> dict[str, float]:
    """The 90/50 rule: how many labels one half promises, and in which share of these the other half keeps what.

    both: of the promised ones, both targets.  others: the same of those that were not promised.
    """
    promised, met = [], []
    for to_fit, to_test in divisions(aligned, num, 0.5):
        thresholds = fit(PrecisionRecallTarget(confidence=confidence), *to_fit)
        counts = f1.count(f1.decide(to_test[0], thresholds.values_C), *to_test[1:], axis=0)
        precision, recall, _ = f1.per_label(counts)
        promised.append([not reason for reason in thresholds.reasons])
        met.append((precision >= 0.9, recall >= 0.5))
    promised_DC, met_D2C = np.array(promised), np.array(met)
    both_DC = met_D2C.all(axis=1)
    return {
        "promised": float(promised_DC.sum(axis=1).mean()),
        "precision": float(met_D2C[:, 0][promised_DC].mean()),
        "recall": float(met_D2C[:, 1][promised_DC].mean()),
        "both": float(both_DC[promised_DC].mean()),
        "others": float(both_DC[~promised_DC].mean()) if not promised_DC.all() else float("nan"),
    }


def calibrated(aligned: AlignedScores, num: int) -> dict[str, dict[str, float]]:
    """Mean over labels and divisions of ECE, Brier score and AP on one half, scores calibrated on the other."""
    rows_of: dict[str, list[tuple[float, ...]]] = {name: [] for name in ("none", *CALIBRATORS)}
    for to_fit, to_test in divisions(aligned, num, 0.5):
        for name, rows in rows_of.items():
            scores_NC = calibrate(*to_fit, name)(to_test[0])
            brier_C, ece_C = brier_and_ece(scores_NC, *to_test[1:])
            ap_C = average_precisions(rank(scores_NC, *to_test[1:]).points, "all_ranks")
            rows.append((float(ece_C.mean()), float(brier_C.mean()), float(np.nanmean(ap_C))))
    return {
        name: dict(zip(("ECE", "Brier", "mAP"), np.mean(rows, axis=0), strict=True)) for name, rows in rows_of.items()
    }


def print_f1(title: str, rows: dict[str, dict[str, float]], num: int) -> None:
    """One Markdown table."""
    num_rare = next(iter(rows.values()))["num_rare"]
    print(f"\n{title} ({num} divisions, {num_rare} times a rare label)\n")
    print("| rule | OF1 | mean F1 of labels | mean F1 of rare labels |\n|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['OF1']:.4f} | {row['labels']:.4f} | {row['rare']:.4f} |")


def main(argv: list[str] | None = None) -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(prog="thresholds", description=__doc__.splitlines()[0])
    parser.add_argument("--halves", type=int, default=20, help="random divisions")
    parser.add_argument("--own", action="store_true", help="a model fitted on VOC2007 instead of the detector")
    chosen = parser.parse_args(argv)
    num, aligned = chosen.halves, read_own() if chosen.own else read_detector()
    for share in (0.5, 0.2, 0.1):
        print_f1(f"Fitted on {share:.0%} of the images", f1_by_rule(aligned, num, share), num)
    for share in (0.5, 0.1):
        rows = f1_by_rule(rescaled(aligned, 3), num, share)
        print_f1(f"The same, each label's scores to a random power of 1/3 to 3, fitted on {share:.0%}", rows, num)
    print(f"\nProbabilities, calibrated on one half, tested on the other ({num} divisions)\n")
    print("| method | ECE | Brier score | mAP |\n|---|---|---|---|")
    for name, row in calibrated(aligned, num).items():
        print(f"| {name} | {row['ECE']:.4f} | {row['Brier']:.4f} | {row['mAP']:.4f} |")
    print(f"\nTarget precision, fitted on one half, tested on the other ({num} divisions)\n")
    print("| target | confidence | labels that reach it | precision kept | kept within its interval | recall |")
    print("|---|---|---|---|---|---|")
    for target in TARGETS:
        for confidence in CONFIDENCES:
            row = precision_kept(aligned, num, target, confidence)
            print(
                f"| {target} | {confidence} | {row['reached']:.1%} | {row['kept']:.1%} | {row['kept_within']:.1%} "
                f"| {row['recall']:.3f} |"
            )
    labels = f"{num} divisions, {len(aligned.labels)} labels"
    print(f"\nThe 90/50 rule, fitted on one half, tested on the other ({labels})\n")
    print("| confidence | labels promised | precision kept | recall kept | both | both, of the others |")
    print("|---|---|---|---|---|---|")
    for confidence in CONFIDENCES:
        promised, *kept = delivered(aligned, num, confidence).values()
        print(f"| {confidence} | {promised:.1f} | {' | '.join(f'{share:.1%}' for share in kept)} |")


if __name__ == "__main__":
    main()
