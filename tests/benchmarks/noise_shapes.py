"""Finding annotation errors of several shapes by real sources, against peers: docs/cleaning.md.

    python -m tests.benchmarks.noise_shapes [--seeds 3] [--first-seed 0] [--only person]

The data of `cleaning`: a real detector's scores and a real vision-language model's label lists on 2,000 VOC 2007 test
images x 20 labels, difficult objects left out. Errors are planted as in SHAPES; of each shape stand the share of them
found in 1 x and 1.25 x as many verdicts, the number found in 400, and what the default policy changes by itself.
Nothing but the table sees the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

from tasks.cleaning.base import TO_ABSENT, TO_PRESENT, Decisions
from tasks.cleaning.consensus import Consensus
from tasks.cleaning.noise import error_probability
from tasks.cleaning.weak_sources import SourceScores
from tests.benchmarks.cleaning import RealScores, plant, read_scores

LABELS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
SIMILAR = (
    ("cat", "dog"),
    ("cow", "sheep"),
    ("horse", "cow"),
    ("bus", "car"),
    ("sofa", "chair"),
    ("bicycle", "motorbike"),
)
BUDGETS = (1.0, 1.25)  # verdicts, as a multiple of the planted errors
VERDICTS = 400


@dataclass(frozen=True)
class Noisy:
    """given_NC: annotations uint8, difficult pairs 0 and unknown.  sources: float (N, C) each, the first a model's."""

    given_NC: np.ndarray
    sources: tuple[np.ndarray, ...]


Shape = Callable[[RealScores, int], Noisy]


# ---------------------------------------------------------------- shapes of noise


def drop(true_NC: np.ndarray, seed: int, *, labels: Sequence[str], share: float) -> np.ndarray:
    """Annotations that lack `share` of these labels' positives, and are right otherwise."""
    given_NC, columns = true_NC.clip(0).astype(np.uint8), [LABELS.index(label) for label in labels]
    draw_NC = np.random.default_rng(seed).random((len(true_NC), len(columns)))
    given_NC[:, columns] = np.where(draw_NC < share, 0, given_NC[:, columns])
    return given_NC


def confuse(true_NC: np.ndarray, seed: int, *, share: float) -> np.ndarray:
    """Of SIMILAR labels, `share` of the positives bear the other one's name instead."""
    given_NC, rng = true_NC.clip(0).astype(np.uint8), np.random.default_rng(seed)
    for pair in SIMILAR:
        for here, there in (pair, pair[::-1]):
            a, b = LABELS.index(here), LABELS.index(there)
            moved = (true_NC[:, a] == 1) & (true_NC[:, b] == 0) & (rng.random(len(true_NC)) < share)
            given_NC[moved, a], given_NC[moved, b] = 0, 1
    return given_NC


def of_both(real: RealScores, given_NC: np.ndarray) -> Noisy:
    return Noisy(given_NC, (real.detector_NC, real.vendor_NC))


def uniform(false_negative: float, false_positive: float) -> Shape:
    rates = {"false_negative": false_negative, "false_positive": false_positive}
    return lambda real, seed: of_both(real, plant(real.true_NC, seed, **rates))


def one_label(label: str, share: float) -> Shape:
    return lambda real, seed: of_both(real, drop(real.true_NC, seed, labels=[label], share=share))


def some_images(chosen: Callable[[int], np.ndarray], false_negative: float, false_positive: float) -> Shape:
    """Errors on chosen images alone. chosen: number of images -> bool (N,)."""

    def shape(real: RealScores, seed: int) -> Noisy:
        noisy_NC = plant(real.true_NC, seed, false_negative=false_negative, false_positive=false_positive)
        there = chosen(len(noisy_NC))[:, None]
        return of_both(real, np.where(there, noisy_NC, real.true_NC.clip(0)).astype(np.uint8))

    return shape


def copying(share: float) -> Shape:
    """Uniform errors, `share` of which the vendor makes as well."""

    def shape(real: RealScores, seed: int) -> Noisy:
        given_NC = plant(real.true_NC, seed)
        copied_NC = (given_NC != real.true_NC) & real.known_NC
        copied_NC &= np.random.default_rng([seed, 1]).random(given_NC.shape) < share
        return Noisy(given_NC, (real.detector_NC, np.where(copied_NC, given_NC, real.vendor_NC).astype(float)))

    return shape


SHAPES: dict[str, Shape] = {
    "none": uniform(0.0, 0.0),
    "uniform, 30 % / 2 %": uniform(0.3, 0.02),
    "uniform, 10 % / 0.5 %": uniform(0.1, 0.005),
    "uniform, 40 % / 4 %": uniform(0.4, 0.04),
    "person, 16 % missing": one_label("person", 0.16),
    "person, 40 % missing": one_label("person", 0.4),
    "dog, 40 % missing": one_label("dog", 0.4),
    "chair, 30 % missing": one_label("chair", 0.3),
    "one source: a third of the images, 40 % / 2 %": some_images(lambda n: np.arange(n) % 3 == 0, 0.4, 0.02),
    "one batch of 200 images, 60 % missing": some_images(lambda n: np.arange(n) // 200 == 4, 0.6, 0.0),
    "confusions of similar labels, 20 %": lambda real, seed: of_both(real, confuse(real.true_NC, seed, share=0.2)),
    "vendor copies all errors": copying(1.0),
    "vendor copies half of the errors": copying(0.5),
}


# ---------------------------------------------------------------- rankings


def by_mean(real: RealScores, noisy: Noisy) -> np.ndarray:
    """|given - mean of the sources|"""
    return np.abs(noisy.given_NC - np.mean(noisy.sources, axis=0))


def by_cleanlab(scores_of: Callable[[Noisy], np.ndarray]) -> Callable[[RealScores, Noisy], np.ndarray]:
    """1 - cleanlab's score of each label, on these scores."""

    def rank(real: RealScores, noisy: Noisy) -> np.ndarray:
        lists = [np.flatnonzero(row).tolist() for row in noisy.given_NC]
        return 1 - get_label_quality_scores_per_class(lists, scores_of(noisy), adjust_pred_probs=True)

    return rank


def decide(real: RealScores, noisy: Noisy) -> Decisions:
    """The default policy's decisions."""
    scores = SourceScores(noisy.sources[0], noisy.sources[1:], np.full(noisy.given_NC.shape, np.nan))
    return Consensus().fit(scores, noisy.given_NC, real.known_NC)(scores, noisy.given_NC, real.known_NC)


PEERS = {
    "mean of the sources": by_mean,
    "cleanlab, detector": by_cleanlab(lambda noisy: noisy.sources[0]),
    "cleanlab, mean": by_cleanlab(lambda noisy: np.mean(noisy.sources, axis=0)),
}


def found(rank_NC: np.ndarray, errors_NC: np.ndarray, known_NC: np.ndarray) -> list[float]:
    """Share of the errors found in each of BUDGETS x errors verdicts, then their number in VERDICTS."""
    order = np.argsort(-np.where(known_NC, rank_NC, -1).ravel(), kind="stable")
    num_found = np.cumsum(errors_NC.ravel()[order])
    shares = [num_found[round(budget * num_found[-1]) - 1] / num_found[-1] for budget in BUDGETS]
    return [*shares, num_found[VERDICTS - 1]]


def row(name: str, shape: Shape, real: RealScores, seeds: Sequence[int]) -> str:
    """A row of the table, the mean of the seeds."""
    ranked: dict[str, list[list[float]]] = {}
    changes = []
    for seed in seeds:
        noisy = shape(real, seed)
        errors_NC = (noisy.given_NC != real.true_NC) & real.known_NC
        decisions = decide(real, noisy)
        changed_NC = np.isin(decisions.action_NC, (TO_PRESENT, TO_ABSENT))
        changes.append((errors_NC.sum(), changed_NC.sum(), errors_NC[changed_NC].sum()))
        if errors_NC.any():
            ours_NC = error_probability(decisions.p_present_NC, noisy.given_NC, real.known_NC)
            ranks = {"consensus": ours_NC} | {peer: rank(real, noisy) for peer, rank in PEERS.items()}
            for ranking, rank_NC in ranks.items():
                ranked.setdefault(ranking, []).append(found(rank_NC, errors_NC, real.known_NC))
    errors, changed, right = np.mean(changes, axis=0)
    cells = [f"{errors:.0f}", f"{changed:.0f} / {right:.0f}"]
    for ranking in ("consensus", *PEERS):
        if ranking not in ranked:
            cells.append("")
            continue
        *shares, number = np.mean(ranked[ranking], axis=0)
        cells.append(f"{' / '.join(f'{share:.3f}' for share in shares)} / {number:.0f}")
    return f"| {name} | {' | '.join(cells)} |"


def main(argv: list[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="noise_shapes", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a shape's name")
    options = parser.parse_args(argv)
    real, seeds = read_scores(), range(options.first_seed, options.first_seed + options.seeds)
    print(
        f"errors found at {' / '.join(f'{b:g} x' for b in BUDGETS)} / in {VERDICTS} verdicts; {options.seeds} seeds\n"
    )
    print(f"| errors | planted | changed / right | consensus | {' | '.join(PEERS)} |\n|---|{'---|' * (len(PEERS) + 3)}")
    for name, shape in SHAPES.items():
        if options.only in name:
            print(row(name, shape, real, seeds), flush=True)


if __name__ == "__main__":
    main()
