"""The other files that `export.variants` asks for; to add one: a function that writes it, and one line below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.export.fp16 import halve
from tasks.export.int8 import quantise
from tasks.export.openvino_ir import write_ir


class Variant(NamedTuple):
    """suffix: of the file that readers open.  write: (exported file, file to write, images (B, H, W, 3)) -> None; the
    images are for finding ranges, uint8 as `preprocessing` leaves them."""

    suffix: str
    write: Callable[[Path, Path, np.ndarray], None]


VARIANTS = {
    "fp16": Variant(".onnx", lambda path, out_path, _: halve(path, out_path)),
    "int8": Variant(".onnx", quantise),
    "openvino": Variant(".xml", lambda path, out_path, _: write_ir(path, out_path)),
}
