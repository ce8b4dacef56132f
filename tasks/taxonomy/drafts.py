"""A first taxonomy.yaml from a vocabulary that exists, for a person to edit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

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
    taken: set[str] = set()
    tried: Counter[str] = Counter()
    for name in source_classes:
        slug = re.sub(r"\W+", "_", names[name].strip().casefold()).strip("_") or "label"
        if slug in taken:
            slug += "_" + re.sub(r"\W+", "", name)
        numbered = slug  # names of signs alone have nothing else to tell them apart
        while numbered in taken:
            tried[slug] += 1
            numbered = f"{slug}_{tried[slug] + 1}"
        ids[name] = numbered
        taken.add(numbered)
    entries = []
    for name in source_classes:
        implied = sorted({ids[p] for p in _nearest(name, parents, ids)})
        entry = {"id": ids[name], "name": names[name].strip(), "implies": implied, "from": {vocabulary: [name]}}
        entries.append({key: value for key, value in entry.items() if value})
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump({"labels": entries}, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)


def _nearest(name: str, parents: Mapping[str, Iterable[str]], drafted: Collection[str]) -> set[str]:
    """The nearest drafted classes above `name`: what is implied by one in between that is not drafted is implied."""
    nearest, waiting, seen = set(), list(parents.get(name, ())), {name}
    while waiting:
        above = waiting.pop()
        if above in drafted:
            nearest.add(above)
        elif above not in seen:
            seen.add(above)
            waiting += parents.get(above, ())
    return nearest
