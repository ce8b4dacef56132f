"""Finding annotation errors by real sources, and what the queue and a large verdicts' file cost: docs/cleaning.md.

    python -m tests.benchmarks.cleaning [--seeds 5] [--images 1000000]

Data: predictions/ of the real data kits: a detector's scores and a vision-language model's label lists on 2,000 VOC
2007 test images x 20 labels. 30 % of the positives are dropped, 2 % of the negatives turned into positives; objects
marked difficult are left out. No ranking sees the truth, except the last one, which is trained on it (10 folds by
image): an estimate of how much these two sources can tell at all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class
from scipy.special import logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold

from tasks.cleaning.album import Album
from tasks.cleaning.changes import apply_changes
from tasks.cleaning.consensus import Consensus
from tasks.cleaning.decisions import batches, fit_policy
from tasks.cleaning.noise import error_probability, fit_noise
from tasks.cleaning.weak_sources import SourceScores, WeakSources
from tasks.core import tables
from tasks.core.prediction_table import Predictions
from tasks.core.states import States
from tasks.review.agreement import resolve
from tasks.review.queue import QuestionQueue
from tasks.review.verdicts import Verdict, append_verdicts, read_verdicts
from tasks.taxonomy.reading import parse_taxonomy
from tests.benchmarks import Row, measure, show

KITS = Path(__file__).resolve().parents[3] / "shared" / "data" / "predictions"
FALSE_NEGATIVE, FALSE_POSITIVE = 0.3, 0.02
BUDGETS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # verdicts, as a multiple of the planted errors
ACCEPT = (0.5, 0.6, 0.75, 0.9)


@dataclass(frozen=True)
class RealScores:
    """true_NC: int8 in {1, 0, -1 difficult}.  detector_NC: scores in [0, 1].  vendor_NC: 1 where it names the label.

    times_NC, place_NC: how often the vendor names it, and after how many other names; -1 where it does not.
    """

    true_NC: np.ndarray
    detector_NC: np.ndarray
    vendor_NC: np.ndarray
    times_NC: np.ndarray
    place_NC: np.ndarray

    @property
    def known_NC(self) -> np.ndarray:
        return self.true_NC >= 0


def read_scores(folder: Path = KITS) -> RealScores:
    """The images that both sources cover."""
    named = json.loads((folder / "voc2007_test_vendor.json").read_text(encoding="utf-8"))
    truth = pq.read_table(folder / "voc2007_test_labels.parquet").to_pylist()
    scores = pq.read_table(folder / "voc2007_test_detector_a.parquet").to_pylist()
    row = {image_id: n for n, image_id in enumerate(named)}
    column = {label: c for c, label in enumerate(sorted({t["label"] for t in truth}))}
    true_NC = np.zeros((len(row), len(column)), np.int8)
    detector_NC, times_NC = np.zeros((2, *true_NC.shape))
    place_NC = np.full(true_NC.shape, -1)
    for matrix, rows, value in ((true_NC, truth, "state"), (detector_NC, scores, "score")):
        for entry in rows:
            if entry["image_id"] in row:
                matrix[row[entry["image_id"]], column[entry["label"]]] = entry[value]
    for image_id, names in named.items():
        for place, name in reversed(list(enumerate(names))):
            if (label := name.lower().replace(" ", "")) in column:
                entry = row[image_id], column[label]
                times_NC[entry] += 1
                place_NC[entry] = place
    return RealScores(true_NC, detector_NC, (times_NC > 0).astype(float), times_NC, place_NC)


def plant(
    true_NC: np.ndarray, seed: int, *, false_negative: float = FALSE_NEGATIVE, false_positive: float = FALSE_POSITIVE
) -> np.ndarray:
    """Annotations uint8 with errors; difficult pairs are 0 and unknown.

    false_negative, false_positive: share of the present pairs that become absent, and the reverse.
    """
    draw_NC = np.random.default_rng(seed).random(true_NC.shape)
    flip_NC = draw_NC < np.select([true_NC == 1, true_NC == 0], [false_negative, false_positive], 0.0)
    return np.where(flip_NC, 1 - true_NC, true_NC).clip(0).astype(np.uint8)


# ---------------------------------------------------------------- rankings


def by_distance(*sources: str) -> Callable[[RealScores, np.ndarray], np.ndarray]:
    """|given - mean of the sources|"""
    return lambda real, given_NC: np.abs(given_NC - np.mean([getattr(real, name) for name in sources], axis=0))


def by_cleanlab(real: RealScores, given_NC: np.ndarray) -> np.ndarray:
    """1 - cleanlab's score of each label, on the detector's scores."""
    lists = [np.flatnonzero(row).tolist() for row in given_NC]
    return 1 - get_label_quality_scores_per_class(lists, real.detector_NC, adjust_pred_probs=True)


def by_album(real: RealScores, given_NC: np.ndarray) -> np.ndarray:
    """Proposals of the album rule, those of both sources first; it does not look for mistaken labels."""
    abstains_NC = np.full(given_NC.shape, np.nan)
    scores = SourceScores(real.detector_NC, (real.vendor_NC,), abstains_NC)
    return Album().decide(scores, given_NC, real.known_NC).p_wrong_NC


def by_consensus(real: RealScores, given_NC: np.ndarray) -> np.ndarray:
    """The default: P(annotation wrong)."""
    scores = [real.detector_NC, real.vendor_NC]
    model = fit_noise(scores, given_NC, real.known_NC)
    return error_probability(model.p_present(scores, given_NC, real.known_NC), given_NC, real.known_NC)


def trained_on_truth(real: RealScores) -> np.ndarray:
    """P(present) by boosted trees that saw the truth of nine tenths of the images, and all that the sources give."""
    num_images, num_labels = real.true_NC.shape
    context = np.stack([real.detector_NC.max(1), real.detector_NC.sum(1), real.vendor_NC.sum(1)], axis=1)
    rank_NC = np.argsort(np.argsort(-real.detector_NC, axis=1), axis=1)
    entries = [
        real.detector_NC.ravel(),
        real.times_NC.ravel(),
        real.place_NC.ravel(),
        rank_NC.ravel(),
        np.tile(np.arange(num_labels), num_images),
    ]
    features = np.column_stack([*entries, np.repeat(context, num_labels, axis=0)])
    present = np.zeros(len(features))
    images = np.repeat(np.arange(num_images), num_labels)
    for learn, test in GroupKFold(10).split(features, groups=images):
        learn = learn[real.known_NC.ravel()[learn]]
        trees = HistGradientBoostingClassifier(
            max_iter=120, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=50, l2_regularization=20.0,
            categorical_features=[4], monotonic_cst=[1, 0, 0, 0, 0, 0, 0, 0], random_state=0,
        )  # fmt: skip
        trees.fit(features[learn], real.true_NC.ravel()[learn])
        present[test] = trees.predict_proba(features[test])[:, 1]
    return present.reshape(real.true_NC.shape)


def by_truth(present_NC: np.ndarray, real: RealScores, given_NC: np.ndarray) -> np.ndarray:
    """P(annotation wrong) from `trained_on_truth` and the planted rates themselves."""
    odds_NC = np.where(given_NC == 1, (1 - FALSE_NEGATIVE) / FALSE_POSITIVE, FALSE_NEGATIVE / (1 - FALSE_POSITIVE))
    log_odds_NC = logit(np.clip(present_NC, 1e-6, 1 - 1e-6)) + np.log(odds_NC)
    return error_probability(1 / (1 + np.exp(-log_odds_NC)), given_NC, real.known_NC)


# ---------------------------------------------------------------- how good


def curve(rank_NC: np.ndarray, errors_NC: np.ndarray, known_NC: np.ndarray) -> np.ndarray:
    """Share of the errors found in the first BUDGETS x errors verdicts."""
    order = np.argsort(-np.where(known_NC, rank_NC, -1).ravel(), kind="stable")
    recall = np.cumsum(errors_NC.ravel()[order]) / errors_NC.sum()
    return recall[[round(budget * errors_NC.sum()) - 1 for budget in BUDGETS]]


def missing_precision(rank_NC: np.ndarray, missing_NC: np.ndarray, given_absent_NC: np.ndarray, recall: float) -> float:
    """Share of missing labels among the proposals that are needed to find `recall` of them."""
    order = np.argsort(-np.where(given_absent_NC, rank_NC, -1).ravel(), kind="stable")
    num_found = np.cumsum(missing_NC.ravel()[order])
    needed = np.searchsorted(num_found, recall * missing_NC.sum()) + 1
    return float(num_found[needed - 1] / needed)


def print_rankings(num_seeds: int) -> None:
    """Two Markdown tables: errors found against verdicts spent, and what the default changes by itself."""
    real = read_scores()
    rankings = {
        "the detector alone": by_distance("detector_NC"),
        "the vendor alone": by_distance("vendor_NC"),
        "cleanlab on the detector": by_cleanlab,
        "album rule (missing labels only)": by_album,
        "mean of the two sources": by_distance("detector_NC", "vendor_NC"),
        "**consensus (default)**": by_consensus,
        "*trained on the truth*": partial(by_truth, trained_on_truth(real)),
    }
    curves: dict[str, list] = {name: [] for name in rankings}
    precisions: dict[str, list] = {name: [] for name in rankings}
    album, automatic, expected, sizes = [], [], [], []
    for seed in range(num_seeds):
        given_NC = plant(real.true_NC, seed)
        errors_NC = (given_NC != real.true_NC) & real.known_NC
        absent_NC = (given_NC == 0) & real.known_NC
        missing_NC = errors_NC & absent_NC
        proposed_NC = (by_album(real, given_NC) > 0) & absent_NC
        recall = missing_NC[proposed_NC].sum() / missing_NC.sum()
        album.append((missing_NC[proposed_NC].mean(), recall))
        sizes.append(errors_NC.sum())
        for name, ranking in rankings.items():
            rank_NC = ranking(real, given_NC)
            curves[name].append(curve(rank_NC, errors_NC, real.known_NC))
            precisions[name].append(missing_precision(rank_NC, missing_NC, absent_NC, recall))
            if ranking is by_consensus:
                automatic.append([(errors_NC[p].mean(), p[errors_NC].mean()) for p in (rank_NC >= t for t in ACCEPT)])
                expected.append(rank_NC.sum() / errors_NC.sum())
    budgets = " | ".join(f"{budget:g} x" for budget in BUDGETS)
    print(f"\nErrors found in N x errors verdicts; {np.mean(sizes):.0f} planted, mean of {num_seeds} seeds\n")
    print(f"| ranking | {budgets} | precision on missing labels |\n|---|{'---|' * (len(BUDGETS) + 1)}")
    for name, recalls in curves.items():
        shares = " | ".join(f"{share:.3f}" for share in np.mean(recalls, axis=0))
        print(f"| {name} | {shares} | {np.mean(precisions[name]):.3f} ± {np.std(precisions[name]):.3f} |")
    precision, recall = np.mean(album, axis=0)
    print(f"\nThe album rule as a set: precision {precision:.3f}, recall {recall:.3f} of the missing labels.")
    print(f"Expected errors by the default / true errors: {np.mean(expected):.3f}.\n")
    print("| accept | precision of automatic changes | errors that they mend |\n|---|---|---|")
    for threshold, (right, mended) in zip(ACCEPT, np.mean(automatic, axis=0), strict=True):
        print(f"| {threshold} | {right:.3f} | {mended:.3f} |")


# ---------------------------------------------------------------- how fast

NUM_LABELS, BATCH_IMAGES = 600, 20_000


def write_scores(path: Path, num_images: int) -> None:
    """float32 scores of `num_images` x 600, most of them low, as one file."""
    rng = np.random.default_rng(0)
    scores = np.lib.format.open_memmap(path, "w+", np.float32, (num_images, NUM_LABELS))
    for start in range(0, num_images, BATCH_IMAGES):
        scores[start : start + BATCH_IMAGES] = (
            rng.random((min(BATCH_IMAGES, num_images - start), NUM_LABELS), np.float32) ** 8
        )


def queue_of_many(path: str, num_images: int) -> int:
    """As the stage `clean` does it: learn from some images, then one pass over all. Returns the questions.

    The annotations are drawn from the scores, and part of the memory that is measured.
    """
    scores = np.lib.format.open_memmap(path, "r", np.float32, (num_images, NUM_LABELS))
    labels = [f"label {c}" for c in range(NUM_LABELS)]
    ids = [f"images/{n}" for n in range(num_images)]
    states, rng = States(ids, labels, np.zeros(scores.shape, np.int8)), np.random.default_rng(1)
    for rows in batches(states):
        states.states_NC[rows] = scores[rows] > rng.random((len(rows), NUM_LABELS), np.float32)
    out_of_fold = Predictions(ids, ["train"] * num_images, labels, scores, "", "raw")
    sources = WeakSources(states, out_of_fold, tables.empty(tables.LABELS), tables.empty(tables.COVERAGE))
    taxonomy = parse_taxonomy({"labels": [{"id": label} for label in labels]})
    fitted = fit_policy(Consensus(), sources, states, taxonomy)
    queue = QuestionQueue(states, budget=200, audit_share=0.1, seed=0)
    for rows in batches(states):
        decisions = fitted.decide(rows)
        queue.add(rows, decisions.p_present_NC, decisions.p_wrong_NC)
    return queue.ranked().num_rows


def apply_verdicts(folder: str, num_verdicts: int) -> int:
    """Read, match, vote, apply, with relations. Returns ms, without making the tables that it is applied to."""
    ids = [f"s/{n}" for n in range(num_verdicts)]
    images = pa.table({"image_id": ids, "source": ["s"] * len(ids), "sha256": ids, "status": ["ok"] * len(ids)})
    start = time.perf_counter()
    taxonomy = taxonomy_of_many()
    verdicts = resolve(read_verdicts(Path(folder) / "verdicts.jsonl", taxonomy), images, taxonomy)
    nothing = (tables.empty(tables.LABELS), tables.empty(tables.UNKNOWN))
    coverage = pa.table({"source": ["s"] * 10, "label": [f"child {c}" for c in range(10)]})
    changed = apply_changes(*nothing, [verdicts.assertions], taxonomy, coverage=coverage, images=images)
    assert changed.changes.num_rows
    return round(1000 * (time.perf_counter() - start))


def taxonomy_of_many():
    children = [{"id": f"child {c}", "implies": [f"parent {c % 10}"]} for c in range(90)]
    return parse_taxonomy({"labels": [*children, *({"id": f"parent {c}"} for c in range(10))]})


def write_verdicts(folder: Path, num_verdicts: int) -> None:
    rng = np.random.default_rng(0)
    answers, labels = rng.choice(["present", "absent", "unsure"], num_verdicts), rng.integers(0, 90, num_verdicts)
    images = rng.integers(0, num_verdicts, num_verdicts)
    when = "2026-05-01T00:00:00+00:00"
    append_verdicts(
        folder / "verdicts.jsonl",
        (
            Verdict(f"s/{n}", f"child {c}", str(answer), "ab"[k % 2], when, sha256=f"s/{n}")
            for k, (n, c, answer) in enumerate(zip(images, labels, answers, strict=True))
        ),
    )


def print_costs(num_images: int, num_verdicts: int = 100_000) -> None:
    """Time and memory of the queue and of a large verdicts' file."""
    with tempfile.TemporaryDirectory() as folder:
        write_scores(Path(folder) / "scores.npy", num_images)
        queue = measure(queue_of_many, str(Path(folder) / "scores.npy"), num_images)
        write_verdicts(Path(folder), num_verdicts)
        verdicts = measure(apply_verdicts, folder, num_verdicts)
    show(
        "Cleaning, cost",
        [
            Row(
                f"queue over {num_images:,} images x 600 labels", queue.seconds, None, queue.peak_mb, "< 180 s, < 8 GB"
            ),
            Row(f"apply {num_verdicts:,} verdicts", verdicts.value / 1000, None, verdicts.peak_mb, "< 5 s"),
        ],
    )


def main(argv: list[str] | None = None) -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(prog="cleaning", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1_000_000)
    options = parser.parse_args(argv)
    print_rankings(options.seeds)
    print_costs(options.images)


if __name__ == "__main__":
    main()
