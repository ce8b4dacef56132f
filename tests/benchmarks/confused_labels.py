"""What the default policy does where the sources confuse labels of which an image has exactly one: docs/cleaning.md.

    python -m tests.benchmarks.confused_labels

scikit-learn's digits, noise added to the pixels so that the model is weaker, and a share of the images under another
digit's name. Scores: out of fold, logistic regression (C = 0.1, 5 folds); once as the project's own model, once as if a
detector had given them. One seed.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from tasks.cleaning.base import TO_ABSENT, TO_PRESENT, TO_UNKNOWN
from tasks.cleaning.consensus import Consensus
from tasks.cleaning.weak_sources import SourceScores

PIXEL_NOISE = (0.0, 0.5)  # standard deviation; pixels lie in [0, 1]
SWAPPED = (0.0, 0.1)


def main(argv: list[str] | None = None) -> None:
    """Print the table as Markdown."""
    pixels_NF, true_N = load_digits(return_X_y=True)
    print("| scores | pixel noise | model right | errors | changed / right | made unknown |\n|---|---|---|---|---|---|")
    for noise in PIXEL_NOISE:
        for share in SWAPPED:
            rng = np.random.default_rng(0)
            noisy_NF = pixels_NF / 16 + rng.normal(0, noise, pixels_NF.shape)
            others_N = (true_N + rng.integers(1, 10, len(true_N))) % 10
            given_N = np.where(rng.random(len(true_N)) < share, others_N, true_N)
            regression = LogisticRegression(C=0.1, max_iter=300)
            scores_NC = cross_val_predict(regression, noisy_NF, given_N, cv=5, method="predict_proba")
            given_NC, true_NC = (np.eye(10, dtype=np.uint8)[names_N] for names_N in (given_N, true_N))
            known_NC, nothing_NC = np.ones(given_NC.shape, bool), np.full(given_NC.shape, np.nan)
            sources = {
                "model's": SourceScores(scores_NC, (), nothing_NC),
                "detector's": SourceScores(nothing_NC, (scores_NC,), nothing_NC),
            }
            for name, scores in sources.items():
                decisions = Consensus().fit(scores, given_NC, known_NC)(scores, given_NC, known_NC)
                errors_NC, changed_NC = given_NC != true_NC, np.isin(decisions.action_NC, (TO_PRESENT, TO_ABSENT))
                unknown_NC = decisions.action_NC == TO_UNKNOWN
                right = (scores_NC.argmax(axis=1) == true_N).mean()
                print(
                    f"| {name} | {noise:g} | {right:.2f} | {errors_NC.sum()} | "
                    f"{changed_NC.sum()} / {errors_NC[changed_NC].sum()} | {unknown_NC.sum()} |"
                )


if __name__ == "__main__":
    main()
