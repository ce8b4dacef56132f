"""python -m tests.benchmarks [NAME …] [OPTION …]: run the named benchmarks, or all but those that take hours or a GPU.

Options go to the benchmark when a single one is named. What is not named is not imported: a machine that runs one
needs only what that one needs.

    python -m tests.benchmarks --quick [NAME …]    each on next to nothing, to see whether it still runs
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from itertools import takewhile

from tests import benchmarks

EXPERIMENTS = {
    *(
        "semi",
        "comp551",
        "cleaning_training",
        "cleaning_probe",
        "intervals",
        "systematic_errors",
        "systematic_pipeline",
    ),
    *("peers", "ladder", "gpu", "cross_fitting", "rare_labels", "openimages_size"),
}

QUICK = {
    "labels": ["--rows", "50000", "--images", "5000"],
    "loader": ["--px", "64", "--workers", "0", "--images", "32", "--turns", "1"],
    "metrics": ["--images", "100", "--labels", "5", "--no-torchmetrics"],
    "protocols": [],
    "fusion": [],
    "step": ["--model", "test_resnet", "--turns", "1", "--steps", "1", "--batch", "4"],
    "thresholds": ["--halves", "1"],
}
"""Options of each that takes seconds with them. What they print then means nothing."""


def main(argv: list[str]) -> int:
    """Exit status: 2 for an unknown name."""
    if argv[:1] == ["--quick"]:
        return quick(argv[1:])
    everything = [name for _, name, _ in pkgutil.iter_modules(benchmarks.__path__) if name != "__main__"]
    names = list(takewhile(lambda argument: not argument.startswith("-"), argv))
    if unknown := [name for name in names if name not in everything or main_of(name) is None]:
        known = [name for name in everything if main_of(name)]
        print(f"benchmarks: '{unknown[0]}' is unknown. Known: {', '.join(known)}.", file=sys.stderr)
        return 2
    for name in names or sorted(set(everything) - EXPERIMENTS):
        if run := main_of(name):
            run(argv[len(names) :] if len(names) == 1 else [])
    return 0


def quick(names: list[str]) -> int:
    """Run those of QUICK, or the named ones of them; what crashes is not caught. Exit status: 2 for one not there."""
    if unknown := sorted(set(names) - set(QUICK)):
        print(f"benchmarks: '{unknown[0]}' has no quick form. Those that do: {', '.join(QUICK)}.", file=sys.stderr)
        return 2
    for name in names or QUICK:
        print(f"benchmarks: {name} {' '.join(QUICK[name])}", flush=True)
        main_of(name)(QUICK[name])
    return 0


def main_of(name: str) -> Callable[[list[str]], None] | None:
    """`main` of a benchmark; None for a module that only helps others."""
    return getattr(importlib.import_module(f"tests.benchmarks.{name}"), "main", None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
