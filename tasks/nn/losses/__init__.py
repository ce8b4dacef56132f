"""Losses over logits_NC, targets_NC and known_NC; what is unknown costs nothing unless the loss says so.

To add one: a module here with a subclass of `base.MultiLabelLoss` (its docstring says how), and one line below. Options
are keyword-only with defaults; tests/nn/losses/test_contract.py then holds it to masking, finiteness and gradients.
"""

from tasks.nn.losses.angular import AdditiveMarginBinary, AsymmetricAngularMargin
from tasks.nn.losses.asl import AsymmetricLoss
from tasks.nn.losses.base import MultiLabelLoss
from tasks.nn.losses.bce import BinaryCrossEntropy
from tasks.nn.losses.focal import FocalLoss
from tasks.nn.losses.group_softmax import GroupSoftmax
from tasks.nn.losses.large_loss import LargeLoss
from tasks.nn.losses.missing import Hill, SelfPacedCorrection
from tasks.nn.losses.selective import SelectiveLoss

LOSSES: dict[str, type[MultiLabelLoss]] = {
    "bce": BinaryCrossEntropy,
    "focal": FocalLoss,
    "asl": AsymmetricLoss,
    "am_binary": AdditiveMarginBinary,
    "aam": AsymmetricAngularMargin,
    "group_softmax": GroupSoftmax,
    "selective": SelectiveLoss,
    "hill": Hill,
    "splc": SelfPacedCorrection,
    "large_loss": LargeLoss,
}
