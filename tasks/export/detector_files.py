"""The detector that `export.detector` asks for: its class map, checked, and its copy beside the exported model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tasks.core.atomic_files import atomic_path
from tasks.core.errors import ModelError, did_you_mean
from tasks.core.tables import sha256_of
from tasks.export.detector import Detector

FILE, CLASSES = "detector.onnx", "classes.yaml"


def ship_detector(
    settings: Mapping[str, Any],
    folder: Path,
    out_folder: Path,
    beside: Path,
    *,
    labels: Sequence[str],
    rules: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Copy the detector to `out_folder`; what the manifest says of it.

    settings: export.detector.  folder: paths.detector.  beside: the exported file.  labels: of the model.
    rules: label -> origin, model, detector, intercept, threshold, as thresholds.json has them under "fusion".
    Raises ModelError where detector, class map and rules do not fit together.
    """
    origin, taken = settings["origin"], {key: value for key, value in settings.items() if key != "origin"}
    detector = open_detector(folder, taken)
    rules = {label: dict(rule) for label, rule in rules.items() if rule["origin"] == origin}
    if not rules:
        raise ModelError(
            f"export.detector: thresholds.json blends no label with {origin}. Write `fuse: {origin}` under labels "
            "of the taxonomy, or set export.detector: null."
        )
    classes = read_classes(folder / CLASSES, detector.names, labels)
    if missing := sorted(set(rules) - set(classes.values())):
        raise ModelError(
            f"{folder / CLASSES}: no class of '{missing[0]}', which the taxonomy fuses with {origin}. Add its class, "
            "or take `fuse:` from the label."
        )
    with atomic_path(out_folder / FILE) as temporary:
        shutil.copyfile(folder / FILE, temporary)
    return {
        "file": Path(os.path.relpath(out_folder / FILE, beside.parent)).as_posix(),
        "sha256": sha256_of(out_folder / FILE),
        "origin": origin,
        "input": taken,
        "classes": {str(index): label for index, label in sorted(classes.items()) if label in rules},
        "labels": {label: {k: v for k, v in rule.items() if k != "origin"} for label, rule in rules.items()},
    }


def open_detector(folder: Path, taken: Mapping[str, Any]) -> Detector:
    """taken: export.detector without `origin`. Raises ModelError."""
    if not (folder / FILE).is_file():
        raise ModelError(f"{folder / FILE}: no such file. Put the detector there, or set export.detector: null.")
    return Detector(folder / FILE, **taken)


def read_classes(path: Path, names: Mapping[int, str], labels: Iterable[str]) -> dict[int, str]:
    """Class index -> label, of a YAML (or JSON) mapping; its keys are indices, or names where the detector has them.

    names: of the detector's classes by index, {} where its file has none.  labels: known ones.  Raises ModelError.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: not a readable YAML file ({' '.join(str(error).split())}).") from error
    if not isinstance(raw, dict) or not raw:
        raise ModelError(f"{path}: found {raw!r}. Expected a mapping of the detector's classes to labels, `0: cat`.")
    index_of = {name: index for index, name in names.items()}
    known = [*labels]
    classes = {}
    for key, label in raw.items():
        if label not in known:
            raise ModelError(f"{path}: {key}: the model has no label '{label}'. {did_you_mean(str(label), known)}")
        index = index_of.get(key, key)
        if not isinstance(index, int) or (names and index not in names):
            has = did_you_mean(str(key), index_of) if names else "Its file names none: write indices."
            raise ModelError(f"{path}: the detector has no class '{key}'. {has}")
        classes[index] = label
    return classes
