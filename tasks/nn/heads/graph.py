"""The label graph: the correlation matrix made of co-occurrence counts, and a vector a label.

Axes: C labels, D entries of a label's vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from tasks.core.errors import ModelError, did_you_mean
from tasks.nn.cooccurrence import Cooccurrence

NodeFeatures = Literal["glove", "one_hot", "learned", "spectral"]


def correlation_matrix(probability_CC: np.ndarray, *, threshold: float, rho: float) -> np.ndarray:
    """The normalised correlation matrix of ML-GCN, float32 (C, C).

        A = [P >= threshold];  A = rho A / column sums;  A = A + I;  A^ = (A D)^T D,  D = diag(row sums ^ -1/2)

    probability_CC: P(column | row), diagonal 0.  threshold: in (0, 1].  rho: weight of all neighbours against 1 for the
    label itself; 0.25 is the paper's 0.2 : 0.8.
    The transpose is the authors': row i of the result holds the labels that imply i. Every label keeps itself, so no
    row sum is 0.
    Source: Chen et al., CVPR 2019, "Multi-Label Image Recognition with Graph Convolutional Networks", column-normalised
    as in its code.
    """
    adjacency_CC = (probability_CC >= threshold).astype(np.float64)
    adjacency_CC *= rho / (adjacency_CC.sum(axis=0) + 1e-6)
    adjacency_CC += np.eye(len(adjacency_CC))
    scale_C = adjacency_CC.sum(axis=1) ** -0.5
    return (scale_C[:, None] * adjacency_CC.T * scale_C).astype(np.float32)


def node_vectors(
    kind: NodeFeatures, cooccurrence: Cooccurrence, label_names: Sequence[str] | None, *, glove: str, dim: int
) -> np.ndarray | None:
    """A vector a label, float32 (C, D); None for "learned", which the network draws itself.

    kind: "glove" (by name, from the file `glove`), "one_hot", "spectral" (needs no names), "learned".
    dim: largest D of "spectral".
    Raises ModelError for an unknown kind, or names the file lacks.
    """
    if kind not in get_args(NodeFeatures):
        raise ModelError(f"node_features '{kind}' is unknown. {did_you_mean(kind, get_args(NodeFeatures))}")
    if kind == "learned":
        return None
    if kind == "one_hot":
        return np.eye(len(cooccurrence.nums_C), dtype=np.float32)
    if kind == "spectral":
        return spectral_vectors(cooccurrence, dim=dim)
    if label_names is None or not glove:
        raise ModelError("node_features 'glove' needs label names and `glove`, the path of a word-vector file.")
    return word_vectors(Path(glove), label_names)


def word_vectors(path: Path, label_names: Sequence[str]) -> np.ndarray:
    """Vectors of `label_names`, float32 (C, D), from an .npz with `labels` and `vectors`; by name, never by position.

    Case, '_' and '-' do not matter. Raises ModelError when the file cannot be read or lacks a name.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            labels, vectors = file["labels"], file["vectors"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: not an .npz with arrays 'labels' and 'vectors' ({error}).") from error
    row_of = {_plain(str(name)): i for i, name in enumerate(labels)}
    missing = [name for name in label_names if _plain(name) not in row_of]
    if missing:
        shown = ", ".join(repr(name) for name in missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ModelError(
            f"{path}: no word vector for {len(missing)} of {len(label_names)} labels ({shown}). "
            "Add them, or set node_features: spectral, which needs no names."
        )
    return vectors[[row_of[_plain(name)] for name in label_names]].astype(np.float32)


def spectral_vectors(cooccurrence: Cooccurrence, *, dim: int) -> np.ndarray:
    """U sqrt(S) of the positive pointwise mutual information, float32 (C, min(dim, C)).

    PPMI_ij = max(0, log P(i, j) / (P(i) P(j))): labels that keep the same company lie close; one without company is 0.
    """
    probability_CC = cooccurrence.conditional_probability()
    joint_CC = probability_CC * cooccurrence.nums_C[:, None]
    joint_CC = (joint_CC + joint_CC.T) / 2
    total = joint_CC.sum()
    if total == 0:
        return np.zeros((len(joint_CC), min(dim, len(joint_CC))), np.float32)
    expected_CC = np.outer(joint_CC.sum(1), joint_CC.sum(1)) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        ppmi_CC = np.where(joint_CC > 0, np.maximum(np.log(joint_CC / expected_CC), 0), 0)
    left, values, _ = np.linalg.svd(ppmi_CC, hermitian=True)
    vectors = (left * np.sqrt(values))[:, :dim]
    # A singular vector's sign is arbitrary: the largest entry is made positive, so that machines agree.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return (vectors * np.where(largest < 0, -1, 1)).astype(np.float32)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
