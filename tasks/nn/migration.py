"""A trained model in another vocabulary, without training it again: renamed, merged, split, new and lost labels.

    renamed   keeps its row
    split     each part starts as a copy of the label that was split
    merged    the mean of the rows of its parts, weighted by how frequent they are, where a linear layer classifies a
              feature that all labels share; elsewhere (a label has a query of its own) the most frequent part
    new       starts afresh

Axes: C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tasks.core.errors import ModelError
from tasks.nn.heads import HEADS
from tasks.nn.heads.base import Head
from tasks.nn.model import Tagger, load_config, load_model

CLASSIFIER = "classifier."
"""State entries of a linear layer on a shared feature begin so; a merged label's logit is the mean of its parts'.

Mean AP over all merges of two (three) of 11 labels of VOC2012, linear head on MobileNetV2, 400 test photographs: 0.709
(0.801) with weights by frequency, 0.697 (0.771) without, 0.686 (0.758) for the most frequent part alone; the maximum of
the logits, which no row can give, has 0.719 (0.820).
"""


def migrated_model(
    path: Path,
    labels: Sequence[str],
    origins: Sequence[Mapping[int, float]],
    *,
    groups: Sequence[Sequence[int]] = (),
    seed: int = 0,
) -> tuple[Tagger, list[str]]:
    """The saved model at `path` with one output for each of `labels`, and the labels that bring weights along.

    origins: for each new label {old column it comes from: how often that one was present, > 0}; {} for a new one.
    groups: columns of the exclusive groups, used where the old model was trained with a softmax over its own.
    seed: of fresh weights.
    Raises ModelError for a head whose rows depend on all of the vocabulary, unless labels only got other names.
    """
    old = load_model(path)
    if [list(columns) for columns in origins] == [[c] for c in range(len(old.labels))]:
        head, carried = old.head, list(labels)
    else:
        head, carried = _new_head(path, old, labels, origins, seed=seed)
    groups = groups if old.groups else ()
    return Tagger(old.backbone, head, labels=labels, logit_scale=old.logit_scale, groups=groups).eval(), carried


def _new_head(
    path: Path, old: Tagger, labels: Sequence[str], origins: Sequence[Mapping[int, float]], *, seed: int
) -> tuple[Head, list[str]]:
    chosen = load_config(path)["head"]
    if hasattr(old.head, "label_graph"):
        raise ModelError(
            f"{path}: head {chosen['name']} is made of the graph of all its labels, so it can take new names but no "
            "merged, split, new, lost or moved labels. Train on the new taxonomy."
        )
    torch.manual_seed(seed)
    head = HEADS[chosen["name"]](old.backbone.num_features, len(labels), **chosen["options"])
    state = old.head.state_dict()
    carried = head.carry_over(state, [(max(olds, key=olds.get), new) for new, olds in enumerate(origins) if olds])
    with torch.no_grad():
        for name, value in head.state_dict().items():
            if not name.startswith(CLASSIFIER):
                continue
            for new, olds in enumerate(origins):
                if len(olds) > 1:
                    share_K = torch.tensor(list(olds.values())) / sum(olds.values())
                    value[new] = torch.tensordot(share_K.to(value), state[name][list(olds)], 1)
    return head, [label for new, label in enumerate(labels) if new in set(carried)]
