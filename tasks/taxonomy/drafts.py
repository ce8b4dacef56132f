"""A first taxonomy.yaml from a vocabulary that exists, for a person to edit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import yaml


def draft_taxonomy(parents: Mapping[str, Iterable[str]], names: Mapping[str, str], vocabulary: str) -> str:
    """YAML text of a taxonomy that takes over a source's classes as they are, to be edited by a person.

    parents: source class -> classes that it implies (of `sources.openimages_tables.read_hierarchy`, say).
    names: source class -> display name; a class without one (Open Images' root "Entity") is left out, since a label
    that is always true teaches nothing.
    """
    known = dict.fromkeys([*parents, *(p for above in parents.values() for p in above)])
    source_classes = sorted((n for n in known if n in names), key=lambda n: (names[n].casefold(), n))
    ids: dict[str, str] = {}
    for name in source_classes:
        slug = re.sub(r"\W+", "_", names[name].strip().casefold()).strip("_") or "label"
        if slug in ids.values():
            slug += "_" + re.sub(r"\W+", "", name)
        taken = set(ids.values())  # names of signs alone have nothing else to tell them apart
        numbered = (f"{slug}_{n}" for n in range(2, len(source_classes) + 2))
        ids[name] = next(s for s in (slug, *numbered) if s not in taken)
    entries = []
    for name in source_classes:
        implied = sorted(ids[p] for p in parents.get(name, ()) if p in ids)
        entry = {"id": ids[name], "name": names[name].strip(), "implies": implied, "from": {vocabulary: [name]}}
        entries.append({key: value for key, value in entry.items() if value})
    return yaml.safe_dump({"labels": entries}, sort_keys=False, allow_unicode=True, width=120)
