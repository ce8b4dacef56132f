"""The same real scores under each protocol, side by side: the table of docs/protocols.md.

    python -m tests.benchmarks.protocols

Data: predictions/ of the real data kits, a detector's scores on the 4,952 VOC 2007 test images x 20 labels.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from tasks.metrics import METRICS, PROTOCOLS, Scored
from tests.benchmarks.thresholds import read_detector

ROWS = (
    *("mAP", "mAP_envelope", "mAP_11_point", "OP", "OR", "OF1", "CP", "CR", "CF1", "CF1_harmonic", "CF1_mean"),
    *("image_F1", "exact_match", "hamming_accuracy", "top3_OF1", "top3_CF1"),
)


def main(argv: list[str] | None = None) -> None:
    """Print the tables as Markdown."""
    argparse.ArgumentParser(prog="protocols", description=__doc__.splitlines()[0]).parse_args(argv)
    aligned = read_detector()
    arrays, num_labels = (aligned.scores_NC, aligned.targets_NC, aligned.known_NC), len(aligned.labels)
    for title, own_threshold in (("Each with its own threshold", True), ("All at 0.5", False)):
        columns = {}
        for name, protocol in PROTOCOLS.items():
            threshold = protocol.threshold if own_threshold else 0.5
            scored = Scored(*arrays, np.full(num_labels, threshold), protocol)
            columns[name] = {row: METRICS[row](scored) for row in ROWS}
        print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for row in ROWS:
            print(f"| {row} | {' | '.join(f'{column[row]:.4f}' for column in columns.values())} |")
    print("\nmAP of tagwright with one choice changed\n\n| choice | mAP |\n|---|---|")
    base = PROTOCOLS["tagwright"]
    choices = {
        "as it is": {},
        "unknown labels absent": {"unknown_in_ap": "absent"},
        "unknown labels present": {"unknown_in_ap": "present"},
        "tied images ranked, earlier first": {"ties": "earlier_first"},
        "tied images ranked, later first": {"ties": "later_first"},
        "area under the envelope": {"average_precision": "envelope"},
        "eleven points": {"average_precision": "eleven_point"},
    }
    for title, changes in choices.items():
        scored = Scored(*arrays, np.full(num_labels, 0.5), replace(base, **changes))
        print(f"| {title} | {METRICS['mAP'](scored):.4f} |")


if __name__ == "__main__":
    main()
