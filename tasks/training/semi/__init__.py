"""Learning from images without labels, beside the supervised loss and in the same loop.

    base.py           SemiMethod: what the loop asks of a method, and Assisted, tagger and method as one module
    stream.py         which unlabelled images stand in which step, and their views
    barlow_twins.py   two views of an image get the same embedding, whose dimensions do not repeat each other
    sesemi.py         tell how an image was turned or mirrored
    pseudo_labels.py  label once with the model of the first phase, then train on both
    cap.py            label every epoch, as many positives a class as its share predicts

To add a method: a SemiMethod with keyword-only options in a module of its own, and one line in SEMI. The contract tests
in tests/training/semi run over the dict. What a method trains beside the tagger is dropped with the run.
"""

from tasks.training.semi.barlow_twins import BarlowTwins
from tasks.training.semi.base import SemiMethod
from tasks.training.semi.cap import Cap
from tasks.training.semi.pseudo_labels import PseudoLabels
from tasks.training.semi.sesemi import Sesemi


def none() -> None:
    """Labelled images only."""


SEMI = {"none": none, "barlow_twins": BarlowTwins, "sesemi": Sesemi, "pseudo_labels": PseudoLabels, "cap": Cap}

__all__ = ["SEMI", "SemiMethod"]
