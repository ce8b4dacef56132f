"""How often 95 % intervals hold the population's value: docs/evaluation.md.

    python -m tests.benchmarks intervals

Each label's scores are normal, with another mean where it is present, so that the value of every metric on infinitely
many images is an integral. A common term of each image's scores makes labels depend on each other. Prevalences fall
geometrically from 0.3 to 0.004 (80 labels) or 0.01 (12); the separation of a label is drawn from the range of SKILLS.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from tasks.metrics import PROTOCOLS, Scored
from tasks.metrics.bootstrap import intervals

SKILLS = {"poor": (0.0, 0.6), "weak": (0.0, 1.2), "good": (1.0, 3.0), "great": (2.5, 4.0)}
RAREST = {12: 0.01, 80: 0.004}
COMMON = 0.3  # standard deviation of what all scores of an image share
SPREAD = float(np.hypot(1, COMMON))
NAMES = ("mAP", "OP", "OR", "OF1", "CP", "CR", "CF1")


@dataclass(frozen=True)
class Held:
    """Of the draws with an interval, the share that held the value; and the share of draws that had one."""

    covered: float
    printed: float


def population(num_labels: int, skill: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prevalence, separation and threshold of each label."""
    prevalence_C = np.geomspace(0.3, RAREST[num_labels], num_labels)
    separation_C = np.random.default_rng(0).uniform(*SKILLS[skill], num_labels)
    return prevalence_C, separation_C, norm.isf(np.minimum(1.5 * prevalence_C, 0.5), 0, SPREAD)


def true_values(
    prevalence_C: np.ndarray, separation_C: np.ndarray, thresholds_C: np.ndarray
) -> tuple[dict, np.ndarray]:
    """Metrics on infinitely many images, and AP of each label."""
    score = np.linspace(-8, 12, 8001)[:, None]
    found, density = norm.sf(score, separation_C, SPREAD), norm.pdf(score, separation_C, SPREAD)
    above = prevalence_C * found + (1 - prevalence_C) * norm.sf(score, 0, SPREAD)
    ap_C = (prevalence_C * found / np.maximum(above, 1e-300) * density).sum(0) / density.sum(0)
    recall_C = norm.sf(thresholds_C, separation_C, SPREAD)
    tp_C = prevalence_C * recall_C
    predicted_C = tp_C + (1 - prevalence_C) * norm.sf(thresholds_C, 0, SPREAD)
    overall = tp_C.sum() / predicted_C.sum(), tp_C.sum() / prevalence_C.sum()
    by_class = float((tp_C / predicted_C).mean()), float(recall_C.mean())
    values = {"mAP": float(ap_C.mean())}
    for prefix, (precision, recall) in (("O", overall), ("C", by_class)):
        f1 = 2 * precision * recall / (precision + recall)
        values |= {f"{prefix}P": precision, f"{prefix}R": recall, f"{prefix}F1": f1}
    return values, ap_C


def coverage(num_images: int, num_labels: int, skill: str, *, num_draws: int, num_resamples: int) -> dict[str, Held]:
    """By metric; "AP" stands for the labels' own intervals together."""
    prevalence_C, separation_C, thresholds_C = population(num_labels, skill)
    true, ap_C = true_values(prevalence_C, separation_C, thresholds_C)
    labels, rng = [str(c) for c in range(num_labels)], np.random.default_rng(1)
    held: dict[str, list] = {name: [] for name in (*NAMES, "AP")}
    for draw in range(num_draws):
        targets_NC = (rng.random((num_images, num_labels)) < prevalence_C).astype(np.uint8)
        scores_NC = rng.normal(size=targets_NC.shape) + targets_NC * separation_C
        scores_NC += COMMON * rng.normal(size=(num_images, 1))
        scored = Scored(
            scores_NC.astype(np.float32), targets_NC, np.ones(targets_NC.shape, bool), thresholds_C,
            PROTOCOLS["tagwright"], keep_order=True,
        )  # fmt: skip
        result = intervals(scored, labels, num_resamples, seed=draw)
        found = [(name, result["metrics"][name], true[name]) for name in NAMES]
        found += [("AP", result["labels"][label]["AP"], ap_C[c]) for c, label in enumerate(labels)]
        for name, ends, value in found:
            held[name].append(np.nan if ends is None else ends[0] <= value <= ends[1])
    return {name: _held(np.array(values, float)) for name, values in held.items()}


def _held(values: np.ndarray) -> Held:
    printed = ~np.isnan(values)
    return Held(float(values[printed].mean()) if printed.any() else np.nan, float(printed.mean()))


def main(argv: list[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="intervals", description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=60)
    parser.add_argument("--images", type=int, nargs="+", default=[172, 500, 2000])
    options = parser.parse_args(argv)
    print(f"| images | labels | model | {' | '.join((*NAMES, 'AP of a label'))} |\n|{'---|' * (len(NAMES) + 4)}")
    for num_images in options.images:
        for num_labels in RAREST:
            for skill in SKILLS:
                how_many = {"num_draws": options.draws, "num_resamples": options.resamples}
                held = coverage(num_images, num_labels, skill, **how_many)
                shown = " | ".join(_shown(of) for of in held.values())
                print(f"| {num_images} | {num_labels} | {skill} | {shown} |", flush=True)


def _shown(held: Held) -> str:
    if not held.printed:
        return "none"
    return f"{held.covered:.2f}" + ("" if held.printed == 1 else f" ({held.printed:.2f})")


if __name__ == "__main__":
    main()
