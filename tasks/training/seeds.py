"""Streams of random numbers that depend on nothing but their names, so that nothing random needs a checkpoint."""

from __future__ import annotations

import numpy as np
import torch

ORDER, AUGMENT, DROPOUT, UNLABELLED_ORDER, UNLABELLED_VIEW, FURTHER_VIEW, PROBE = range(7)
"""First key of a stream: the order of an epoch, the augmentation of one image, the dropout of one step; the order of a
pass through the unlabelled images, the views of one of them, the further views of a labelled one; the images and folds
of the probe."""


def generator(seed: int, *keys: int) -> torch.Generator:
    """CPU generator of the stream `keys` under `seed`; all are integers >= 0."""
    return torch.Generator().manual_seed(stream_seed(seed, *keys))


def stream_seed(seed: int, *keys: int) -> int:
    """63-bit seed of the stream `keys` under `seed`."""
    return int(np.random.SeedSequence([seed, *keys]).generate_state(1, np.uint64)[0] >> 1)
