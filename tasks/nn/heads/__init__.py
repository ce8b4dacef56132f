"""Heads: a feature map (B, F, H, W) in, one logit a label out (a cosine where `angular`).

To add one: a module here with a subclass of `base.Head` (its docstring says how), and one line below. Options are
keyword-only with defaults; context (num_features, num_labels, cooccurrence, label_names, node_vectors) is positional
and asked for by name. tests/nn/heads/test_contract.py then holds it to shapes, gradients, batches of one and ONNX.
"""

from tasks.nn.heads.base import Head
from tasks.nn.heads.gat import Gat, GatMLDecoder
from tasks.nn.heads.linear import AngularLinear, Linear, OtxNonlinear
from tasks.nn.heads.ml_decoder import MLDecoder
from tasks.nn.heads.ml_gcn import MLGcn
from tasks.nn.heads.query2label import Query2Label

HEADS: dict[str, type[Head]] = {
    "linear": Linear,
    "angular_linear": AngularLinear,
    "otx_nonlinear": OtxNonlinear,
    "ml_decoder": MLDecoder,
    "query2label": Query2Label,
    "gat": Gat,
    "gat_ml_decoder": GatMLDecoder,
    "ml_gcn": MLGcn,
}
