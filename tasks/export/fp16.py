"""An exported file with 16-bit weights and activations: half the size, quicker on devices that compute in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx.shape_inference import infer_shapes
from onnx.utils import Extractor
from onnxruntime.transformers.float16 import convert_float_to_float16

from tasks.export.graphs import from_the_last_layer_on, write_variant
from tasks.export.runtime import open_session


def halve(path: Path, out_path: Path) -> None:
    """Write `out_path` atomically: the network of `path` in half precision, with the same inputs, outputs and manifest.

    Raises ModelError when `path` is no exported model.
    """
    _, manifest = open_session(path)
    model = onnx.load(path)
    last = set(from_the_last_layer_on(model.graph))
    tail = [node for node in model.graph.node if node.name in last]
    made = {name for node in tail for name in node.output}
    taken = dict.fromkeys(name for node in tail for name in node.input if name and name not in made)
    weights = [weight for weight in model.graph.initializer if weight.name in taken]
    enters = [name for name in taken if name not in {weight.name for weight in weights}]
    # The converter rounds to halves what its own list of excepted nodes computes, so it is given the rest of the graph.
    body = Extractor(infer_shapes(model)).extract_model([image.name for image in model.graph.input], enters)
    halved = convert_float_to_float16(body, keep_io_types=True)
    _append(halved.graph, tail, weights, outputs=model.graph.output)
    write_variant(halved, out_path, manifest, precision="fp16")


def _append(graph: onnx.GraphProto, nodes: Sequence, weights: Sequence, *, outputs: Sequence) -> None:
    """Put copies of `nodes` behind `graph`, under names of their own: it may hold the same ones in halves."""
    final = {output.name for output in outputs}
    own = {name: f"{name}_fp32" for node in nodes for name in node.output if name not in final}
    own |= {weight.name: f"{weight.name}_fp32" for weight in weights}
    for weight in weights:
        graph.initializer.add().CopyFrom(weight)
        graph.initializer[-1].name = own[weight.name]
    for node in nodes:
        copy = graph.node.add()
        copy.CopyFrom(node)
        copy.name = f"{node.name}_fp32"
        copy.input[:] = [own.get(name, name) for name in node.input]
        copy.output[:] = [own.get(name, name) for name in node.output]
    del graph.output[:]
    graph.output.extend(outputs)
