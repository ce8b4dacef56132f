"""Which images stand where, and how often training sees them: splits, replication factors, label statistics.

`few_labels.py` draws the images of the few-labels protocol.

To add a sampler: one class in `replication.py` that turns label frequencies f(h) into factors r(h) >= 1, its options
keyword-only, and one line here.
"""

from tasks.sampling.replication import Natural, SquareRoot, Uniform

SAMPLERS = {"natural": Natural, "square_root": SquareRoot, "uniform": Uniform}
