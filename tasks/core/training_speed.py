"""How fast trainings were on this machine, to estimate the next one; outside the graph, changes no result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tasks.core.environment import training_speeds
from tasks.core.tables import write_json


class Model(Protocol):
    """What the speed hangs on: section `model` of params.yaml. image_px: (height, width)."""

    backbone: Any
    image_px: Sequence[int]


def remember(stage: str, model: Model, speed: Sequence[Mapping[str, float]]) -> None:
    """Note the speed of the stage's last training.  speed: a row an epoch, [] where a resumed run had none left."""
    if not speed:
        return
    path, images_per_s = training_speeds(), speed[-1]["images_per_s"]
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, {**known, stage: {"network": _network(model), "images_per_s": images_per_s}})


def recall(stage: str, model: Model) -> float | None:
    """Images a second of the stage's last training; None where there is none, or of another network."""
    path = training_speeds()
    last = json.loads(path.read_text(encoding="utf-8")).get(stage) if path.exists() else None
    return last["images_per_s"] if last and last["network"] == _network(model) else None


def _network(model: Model) -> str:
    """E.g. "resnet18 224x224"."""
    return f"{model.backbone.name} {'x'.join(map(str, model.image_px))}"
