"""What Label Studio's JSON means, for those who read labels and for those who read verdicts from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

_UPLOADED = re.compile(r"/upload/(?:\d+/)?[0-9a-f]{8}-([^/]+)$")
"""It puts eight hex digits and a hyphen before the name of an uploaded file."""


def exported_names(name: str) -> list[str]:
    """What an export may mean by the name of an image, the most literal first."""
    if "local-files/?d=" in name:
        return ["/" + unquote(name.partition("?d=")[2])]
    uploaded = _UPLOADED.search(unquote(re.split("[?#]", name)[0] if "://" in name else name))
    return [name, *(uploaded.groups() if uploaded else ())]


def label_paths(value: Mapping[str, Any]) -> list[list[str]]:
    """Labels of a result's `value`: choices, labels of regions (`rectanglelabels`, …), and paths of a taxonomy.

    Each is a path of names from parent to child, of one name where there is no taxonomy.
    Raises ValueError with the key whose content is of another kind.
    """
    paths = []
    for key, given in value.items():
        holds_labels = key in ("choices", "taxonomy") or key.endswith("labels")
        if given is None or not holds_labels:
            continue
        if not isinstance(given, list):
            raise ValueError(f"value.{key}: expected a list […], found {_shown(given)}")
        for entry in given:
            path = entry if key == "taxonomy" and isinstance(entry, list) else [entry]
            for name in path:
                if not isinstance(name, str):
                    raise ValueError(f"value.{key}: expected text, found {_shown(name)}")
            paths += [path] if path else []
    return paths


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]
