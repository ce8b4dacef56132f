"""Reading taxonomy.yaml: YAML, its keys, its consistency; every fault in one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tasks.core.errors import ModelError, TaxonomyError, did_you_mean
from tasks.taxonomy.consistency import check_taxonomy
from tasks.taxonomy.taxonomy import Deliver, Label, Migration, Taxonomy


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, which YAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key '{key_node.value}' is given twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_taxonomy(path: Path) -> Taxonomy:
    """Read and check a taxonomy. Raises TaxonomyError: file, label, what was found, what to do."""
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except FileNotFoundError as error:
        raise TaxonomyError(f"{path}: no such file. Set paths.taxonomy in params.yaml, or write one.") from error
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"{path}: not UTF-8 text ({error}). Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        raise TaxonomyError(
            f"{path}{at}: not valid YAML ({str(getattr(error, 'problem', None) or error).splitlines()[0]})."
        ) from error
    return parse_taxonomy(raw, where=str(path))


def refuse_missing_labels(taxonomy: Taxonomy, labels: Iterable[str], *, where: Path, model: Path) -> None:
    """Raise ModelError where the taxonomy lacks one of the labels that a model was trained on.

    where: the taxonomy's file.  model: its folder.
    """
    for label in labels:
        if label not in taxonomy.index:
            raise ModelError(
                f"{where}: no label '{label}', which {model} was trained on. {did_you_mean(label, taxonomy.ids)} "
                "Run `dvc repro`, which trains on the new labels."
            )


def parse_taxonomy(raw: Any, *, where: str = "taxonomy") -> Taxonomy:
    """Taxonomy from the parsed YAML (`taxonomy.py` explains its keys). Raises TaxonomyError."""
    if not isinstance(raw, dict):
        raise TaxonomyError(f"{where}: expected a mapping with the key 'labels', found {type(raw).__name__}.")
    try:
        taxonomy = Taxonomy.model_validate(raw)
    except ValidationError as error:
        raise TaxonomyError(_one_line(error, raw, where)) from error
    check_taxonomy(taxonomy, where)
    return taxonomy


_EXPECTED = {
    "string_type": "expected text",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "missing": "is missing",
}

_RENAMED_KEYS = {"closed": "exhaustive_children"}
"""Keys of a label in older files."""


def _one_line(error: ValidationError, raw: dict, where: str) -> str:
    problems = error.errors()
    # An unknown key is most often the misspelling behind a missing one: tell it first.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    location = list(problem["loc"])
    place = ".".join(map(str, location))
    if location[0] == "labels" and len(location) > 1:
        entry = raw["labels"][location[1]]
        name = entry.get("id") if isinstance(entry, dict) else None
        place = ".".join([f"label '{name}'" if name else f"labels[{location[1]}]", *map(str, location[2:])])
    if problem["type"] == "extra_forbidden":
        if replacement := _RENAMED_KEYS.get(str(location[-1])) if location[0] == "labels" else None:
            return f"{where}: {place}: this key is called `{replacement}` now. Rename it.{more}"
        model = {1: Taxonomy, 3: Label if location[0] == "labels" else Migration}.get(len(location), Deliver)
        known = {field.alias or name for name, field in model.model_fields.items()}
        return f"{where}: {place}: unknown key. {did_you_mean(str(location[-1]), known)}{more}"
    message = _EXPECTED.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    value = problem.get("input")
    shown = "" if isinstance(value, (dict, BaseModel)) else f", found {value!r}"
    # YAML reads a bare 7, no or 2024-01-01 as a number, a truth value, a date.
    hint = ' Put it in quotes: "…".' if problem["type"] == "string_type" and not isinstance(value, (dict, list)) else ""
    return f"{where}: {place}: {message}{shown}.{hint}{more}"
