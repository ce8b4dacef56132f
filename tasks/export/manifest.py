"""What an exported model says of itself, kept as JSON in the metadata of the ONNX file.

    labels, display_names   one a label; any Unicode
    thresholds              one a label, null where the label is never predicted
    implications            [child, ancestor] columns, all of them, not only direct ones
    preprocessing           short_side_px, image_px [height, width], resize: what happens to pixels before the network;
                            jpeg_quality only where the stored images are JPEGs
    probabilities           one calibration map a label, see export/probabilities.py; only where scores are calibrated
    detector                the file beside this one whose scores join the model's, see `detector_files.ship_detector`;
                            only where export.detector asks for it. Scores and decisions of the graph are without it
    seal                    checksum of the file, see core/seals.py
    provenance              hashes of model and taxonomy, weights kind, …

Where a list has one entry a label, the order is that of the output's columns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from tasks.core.seals import SEAL

FORMAT = "tagwright/1"
"""Raised when an older reader would misunderstand a newer file."""


@dataclass(frozen=True)
class Preprocessing:
    """short_side_px: a larger image is first reduced to it.  image_px: (height, width).  resize: see nn.geometry.

    jpeg_quality: at which it is then encoded and decoded, as the training images were; None: not at all.
    """

    short_side_px: int
    image_px: tuple[int, int]
    resize: str
    jpeg_quality: int | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Preprocessing:
        """What the images of a model folder went through, by its model.json."""
        height, width = config["image_px"]
        return cls(config["short_side_px"], (height, width), config["resize"], config.get("jpeg_quality"))


@dataclass(frozen=True)
class Manifest:
    """thresholds: finite, or math.inf for a label that is never predicted. The rest: see the module docstring."""

    labels: Sequence[str]
    display_names: Sequence[str]
    thresholds: Sequence[float]
    implications: Sequence[tuple[int, int]]
    preprocessing: Preprocessing
    provenance: Mapping[str, Any]
    probabilities: Sequence[Mapping | None] = ()
    detector: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.display_names) == len(self.thresholds), "one of each a label"

    def as_metadata(self) -> dict[str, str]:
        """Keys and JSON texts for the file; `from_metadata` reads them back exactly."""
        values = {
            "format": FORMAT,
            "labels": list(self.labels),
            "display_names": list(self.display_names),
            "thresholds": [t if math.isfinite(t) else None for t in map(float, self.thresholds)],
            "implications": [list(pair) for pair in self.implications],
            "preprocessing": {key: value for key, value in asdict(self.preprocessing).items() if value is not None},
            "provenance": dict(self.provenance),
            "seal": SEAL,
        }
        if self.probabilities:
            values["probabilities"] = list(self.probabilities)
        if self.detector:
            values["detector"] = dict(self.detector)
        return {key: json.dumps(value, sort_keys=True, ensure_ascii=False) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Manifest:
        """Raises ValueError when the metadata is not that of an exported model of this format."""
        optional = {"probabilities", "detector"} - set(metadata)
        wanted = ["format", *(field.name for field in fields(cls) if field.name not in optional)]
        if missing := [key for key in wanted if key not in metadata]:
            raise ValueError(f"its metadata has no '{missing[0]}'")
        values = {key: json.loads(metadata[key]) for key in wanted}
        if values.pop("format") != FORMAT:
            raise ValueError(f"its format is {metadata['format']}, this version reads {FORMAT}")
        return cls(
            **values
            | {
                "thresholds": [math.inf if t is None else t for t in values["thresholds"]],
                "implications": [tuple(pair) for pair in values["implications"]],
                "preprocessing": Preprocessing(
                    **values["preprocessing"] | {"image_px": tuple(values["preprocessing"]["image_px"])}
                ),
            }
        )
