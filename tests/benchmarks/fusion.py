"""A detector beside another source of scores, blended by the fitted rule: the table of docs/thresholds.md.

    python -m tests.benchmarks.fusion

Data: predictions/ of the real data kits, the first 2,000 VOC 2007 test images x 20 labels: a detector's scores, and in
the model's place the lists of a vision-language model, 1 where it names the label, else 0. The photographs of that test
set could not be had, so no model of ours has scores of them. 20 random halves: the blends are fitted on one as
`calibrate` does, and all three are measured on the other. Objects marked difficult are unknown.
"""

from __future__ import annotations

import numpy as np

from tasks.metrics.average_precision import average_precisions
from tasks.metrics.ranking import rank
from tasks.thresholds.fusion import fit_blends, fuse
from tests.benchmarks.cleaning import read_scores

HALVES = 20


def main(argv: list[str] | None = None) -> None:
    real = read_scores()
    targets_NC, known_NC = (real.true_NC == 1).astype(np.uint8), real.true_NC >= 0
    own_NC, detected_NC = real.vendor_NC.astype(np.float32), real.detector_NC
    num_images, num_labels = targets_NC.shape
    results: dict[str, list[np.ndarray]] = {"lists alone": [], "detector alone": [], "blended": []}
    for seed in range(HALVES):
        fitted, tested = np.array_split(np.random.default_rng(seed).permutation(num_images), 2)
        truth = targets_NC[fitted], known_NC[fitted]
        blends = fit_blends(own_NC[fitted], detected_NC[fitted], *truth, range(num_labels))
        scores = (own_NC, detected_NC.astype(np.float32), fuse(own_NC, detected_NC, blends))
        for name, scores_NC in zip(results, scores, strict=True):
            results[name].append(
                average_precisions(rank(scores_NC[tested], targets_NC[tested], known_NC[tested]).points)
            )
    ap = {name: np.array(values) for name, values in results.items()}
    for name, ap_SC in ap.items():
        print(f"{name:15} mAP {100 * np.nanmean(ap_SC):.1f}")
    gain_S = np.nanmean(ap["blended"] - np.maximum(ap["lists alone"], ap["detector alone"]), axis=1)
    print(f"blended, over the better of the two by label: {100 * gain_S.mean():.1f}, least {100 * gain_S.min():.1f}")


if __name__ == "__main__":
    main()
