"""Training and inference: one loop, its data, its optimisers, and everything that a resumed run must remember.

    loop.py       train(): epochs, validation, checkpoints; read this first
    step.py       one optimiser step: micro-batches, processes, half precision, SAM, clipping
    data.py       ImageSet, the plan of which image stands in which step, loaders
    augment.py    the policy: an ordered list of AUGMENTATIONS
    optim.py      parameter groups, OPTIMIZERS;  schedules.py  SCHEDULES;  stopping.py  STOPPING_RULES
    semi/         learning from unlabelled images beside the labelled ones
    sam.py, ema.py, lr_finder.py, checkpoint.py, distributed.py, inference.py

To add an augmentation, optimiser, schedule or stopping rule: a factory with keyword-only options in its module, and one
line in the dict below. The contract tests in tests/training run over the dicts.
"""

from tasks.training.augment import AUGMENTATIONS
from tasks.training.optim import adamw, sgd
from tasks.training.schedules import constant, cosine, one_cycle, plateau, poly
from tasks.training.stopping import LazyPatience, Never, TrailingBar

OPTIMIZERS = {"sgd": sgd, "adamw": adamw}
SCHEDULES = {"one_cycle": one_cycle, "cosine": cosine, "poly": poly, "plateau": plateau, "constant": constant}
STOPPING_RULES = {"none": Never, "paper": TrailingBar, "otx": LazyPatience}

__all__ = ["AUGMENTATIONS", "OPTIMIZERS", "SCHEDULES", "STOPPING_RULES"]
