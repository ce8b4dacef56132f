"""Labels of images from an exported file alone: onnxruntime, numpy and Pillow, no torch.

Axes: B images, C labels, H W pixels.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from tasks.core.errors import ModelError
from tasks.core.seals import seal_of
from tasks.export.detector import BesideModel, Read
from tasks.export.manifest import Manifest
from tasks.nn.geometry import fit_to


def open_session(path: Path, *, num_threads: int = 0) -> tuple[onnxruntime.InferenceSession, Manifest]:
    """The network of an exported file, on the CPU, and what the file says of itself.

    num_threads: 0 for every core.
    Raises ModelError when the file is missing, damaged or not one that `export` wrote.
    """
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such file. Run `dvc repro export`, or give the path of an exported model.")
    if (state := seal_of(Path(path))) == "broken":
        raise ModelError(f"{path}: not as it was written (its checksum is broken). Copy it anew, or export it again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3  # errors; what it says at load about its own optimisations helps nobody
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        manifest = Manifest.from_metadata(session.get_modelmeta().custom_metadata_map)
    except Exception as error:  # onnxruntime's errors share no public base class
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path}: not an exported model ({reason}). Run `dvc repro export` again.") from error
    if state == "missing":
        raise ModelError(f"{path}: has no checksum: an older version wrote it. Run `dvc repro export` again.")
    return session, manifest


class Seen(NamedTuple):
    """pixels_HWC: what the network takes of one image.  detected_C: the detector's scores, None without one."""

    pixels_HWC: np.ndarray
    detected_C: np.ndarray | None


class Predictor:
    """An exported file, or its OpenVINO form (.xml), ready to score. Safe to call from several threads."""

    def __init__(self, path: Path, *, num_threads: int = 0) -> None:
        if Path(path).suffix == ".xml":
            from tasks.export.openvino_ir import open_ir  # an extra

            self._score, self.manifest = open_ir(path, num_threads=num_threads)
        else:
            session, self.manifest = open_session(path, num_threads=num_threads)
            self._score = lambda images_BHWC: session.run(["scores", "decisions"], {"images": images_BHWC})
        beside = self.manifest.detector
        self.detector = BesideModel(path, self.manifest, num_threads=num_threads) if beside else None
        self.thresholds_C = np.asarray(self.manifest.thresholds, np.float64)
        if self.detector:
            self.thresholds_C[self.detector.columns] = self.detector.thresholds_K

    def network_pixels(self, source: str | bytes, read: Read) -> np.ndarray:
        """What the network takes of an image: uint8 (H, W, 3). Raises what `read` raises."""
        preprocessing = self.manifest.preprocessing
        pixels_HWC = read(source, preprocessing.short_side_px, preprocessing.jpeg_quality)
        return fit_to(pixels_HWC, preprocessing.image_px, preprocessing.resize)

    def look(self, source: str | bytes, read: Read) -> Seen:
        """`network_pixels` of an image, and what the detector says of it. Raises what `read` raises."""
        return Seen(self.network_pixels(source, read), self.detector and self.detector.look(source, read))

    def __call__(self, images_BHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores float32 (B, C) in [0, 1] and decisions bool (B, C) of uint8 images; of the model without detector."""
        return tuple(self._score(images_BHWC))

    def decided(
        self, scores_C: np.ndarray, decisions_C: np.ndarray, detected_C: np.ndarray | None = None
    ) -> dict[str, float]:
        """Label -> score of the labels that were decided, best first. detected_C: of `look`, which joins them."""
        if self.detector and detected_C is not None:
            scores_C, decisions_C = self.detector.joined(scores_C, decisions_C, detected_C)
        columns = np.flatnonzero(decisions_C)
        best_first = columns[np.argsort(-scores_C[columns], kind="stable")]
        return {self.manifest.labels[c]: round(float(scores_C[c]), 6) for c in best_first}


def predict_files(
    model_path: Path, paths: Iterable[str | Path], *, read: Read, batch_size: int = 16, num_threads: int = 0
) -> Iterator[dict]:
    """One entry an image, in order: {"path", "labels": {label: score}}, or {"path", "error": reason}.

    read: tasks.images.stored_pixels.stored_pixels.  num_threads: of the network, and of decoding; 0 for every core.
    An image that cannot be read does not disturb the others. The next batch is decoded while one is scored.
    Raises ModelError when the model cannot be opened.
    """
    return _predict(Predictor(model_path, num_threads=num_threads), paths, read, batch_size, num_threads)


class _Pending(NamedTuple):
    path: str
    seen: Future[Seen]


def _predict(
    predictor: Predictor, paths: Iterable[str | Path], read: Read, batch_size: int, num_threads: int
) -> Iterator[dict]:
    remaining = map(str, paths)
    waiting: deque[list[_Pending]] = deque()
    pool = ThreadPoolExecutor(num_threads or os.cpu_count(), "decode")
    try:
        while True:
            batch = [_Pending(path, pool.submit(predictor.look, path, read)) for path in islice(remaining, batch_size)]
            if batch:
                waiting.append(batch)
            elif not waiting:
                return
            if len(waiting) == 2 or not batch:
                yield from _entries(predictor, waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _entries(predictor: Predictor, batch: list[_Pending]) -> Iterator[dict]:
    failed = {i: error for i, item in enumerate(batch) if (error := item.seen.exception())}
    good = [i for i in range(len(batch)) if i not in failed]
    seen = [batch[i].seen.result() for i in good]
    if good:
        scores_BC, decisions_BC = predictor(np.stack([one.pixels_HWC for one in seen]))
    row_of = {i: row for row, i in enumerate(good)}
    for i, item in enumerate(batch):
        if i in failed:
            yield {"path": item.path, "error": reason(failed[i])}
        else:
            row = row_of[i]
            labels = predictor.decided(scores_BC[row], decisions_BC[row], seen[row].detected_C)
            yield {"path": item.path, "labels": labels}


def reason(error: BaseException) -> str:
    """One line; the error's type where it says nothing itself."""
    return " ".join(str(error).split()) or type(error).__name__
