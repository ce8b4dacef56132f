"""python -m tests.benchmarks [NAME …]: run the named benchmarks, or all but the experiments, which train for hours."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from tests import benchmarks

EXPERIMENTS = {"semi", "comp551", "cleaning_training", "cleaning_probe", "systematic_errors"}


def main(argv: list[str]) -> int:
    """Exit status: 2 for an unknown name."""
    modules = {
        name: importlib.import_module(f"tests.benchmarks.{name}")
        for _, name, _ in pkgutil.iter_modules(benchmarks.__path__)
        if name != "__main__"
    }
    known = {name: module for name, module in modules.items() if hasattr(module, "main")}
    if unknown := [name for name in argv if name not in known]:
        print(f"benchmarks: '{unknown[0]}' is unknown. Known: {', '.join(known)}.", file=sys.stderr)
        return 2
    for name in argv or sorted(known.keys() - EXPERIMENTS):
        known[name].main([])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
