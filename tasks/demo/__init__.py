"""Makers of the embedded data: whole deliveries, written to disk in the suppliers' own formats.

To add one: write `tasks/demo/<name>.py` with `write(out, *, seed, options) -> pa.Table`, where the options are
keyword-only with defaults (they come from `make_demo.sets.<name>` in params.yaml) and equal arguments give equal bytes;
it returns the label errors that it planted as a TRUTH table, empty where there are none. Enter it below.
"""

from tasks.demo import digits, symbols

DEMOS = {"digits": digits.write, "symbols": symbols.write}

__all__ = ["DEMOS"]
