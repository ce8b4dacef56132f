"""An exported file as OpenVINO's intermediate representation, for devices that run OpenVINO: NAME.xml with NAME.bin.

OpenVINO keeps the metadata of an ONNX file under `framework`, so the manifest comes along by itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from tasks.core.errors import ModelError
from tasks.export.manifest import Manifest

METADATA = "framework"


def write_ir(path: Path, out_path: Path) -> None:
    """Write `out_path` (.xml) and its .bin beside it: the network of `path`, weights in single precision.

    Raises ModelError when OpenVINO is not installed, or cannot read `path`.
    """
    openvino = _openvino()
    model = _read(openvino, path)
    for number, node in enumerate(model.get_ordered_ops()):
        node.friendly_name = f"{node.get_type_name()}_{number}"  # OpenVINO's own names count on through a process
    with tempfile.TemporaryDirectory(dir=out_path.parent) as folder:
        temporary = Path(folder) / out_path.name
        openvino.save_model(model, temporary, compress_to_fp16=False)
        os.replace(temporary.with_suffix(".bin"), out_path.with_suffix(".bin"))  # nothing looks at it without the .xml
        os.replace(temporary, out_path)


def open_ir(path: Path, *, num_threads: int = 0) -> tuple[Callable[[np.ndarray], tuple[np.ndarray, ...]], Manifest]:
    """uint8 (B, H, W, 3) -> scores (B, C), decisions (B, C) of a file that `write_ir` wrote; and its manifest.

    num_threads: 0 for every core.  Raises ModelError as `write_ir` does, and for another program's file.
    """
    openvino = _openvino()
    model = _read(openvino, path)
    try:
        metadata = dict(model.get_rt_info().items()).get(METADATA, {})
        manifest = Manifest.from_metadata({key: value.value for key, value in metadata.items()})
    except ValueError as error:
        raise ModelError(f"{path}: not an exported model ({error}). Set export.variants: [openvino].") from error
    # Its own choice is bfloat16 wherever the processor has it, and scores would depend on the machine.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": num_threads}
    compiled = openvino.Core().compile_model(model, "CPU", options)

    def score(images_BHWC: np.ndarray) -> tuple[np.ndarray, ...]:
        outputs = compiled.create_infer_request().infer({"images": images_BHWC})  # threads share no request
        return outputs["scores"], outputs["decisions"]

    return score, manifest


def _read(openvino: ModuleType, path: Path):
    try:
        return openvino.Core().read_model(path)
    except Exception as error:  # OpenVINO's errors share no public base class
        raise ModelError(f"{path}: OpenVINO cannot read it ({' '.join(str(error).split())[:200]}).") from error


def _openvino() -> ModuleType:
    try:
        import openvino
    except ImportError as error:
        raise ModelError(
            "openvino is not installed. `pip install .[openvino]`, or take it out of export.variants."
        ) from error
    return openvino
