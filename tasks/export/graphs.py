"""What the files of lower precision share: which nodes keep theirs, and how a changed graph is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from tasks.core.atomic_files import atomic_path
from tasks.core.seals import seal
from tasks.export.manifest import Manifest


def from_the_last_layer_on(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes from the last linear layer to the outputs: 256 levels of a logit, or the eleven bits of a half
    number near 1, would tie scores."""
    made_by = {output: node for node in graph.node for output in node.output}
    names, waiting = [], [output.name for output in graph.output]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and node.name not in names:
            names.append(node.name)
            waiting += [] if node.op_type in ("Conv", "Gemm", "MatMul") else node.input
    return names


def write_variant(model: onnx.ModelProto, out_path: Path, manifest: Manifest, *, precision: str) -> None:
    """Write the file atomically, with the manifest of the file it was made from and its precision."""
    del model.metadata_props[:]
    marked = replace(manifest, provenance={**manifest.provenance, "precision": precision})
    onnx.helper.set_model_props(model, marked.as_metadata())
    with atomic_path(out_path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
        seal(temporary)
