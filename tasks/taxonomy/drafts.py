"""A first taxonomy.yaml from a vocabulary that exists, for a person to edit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import yaml


def draft_taxonomy(parents: Mapping[str, Iterable[str]], names: Mapping[str, str], vocabulary: str) -> str:
    """YAML text of a taxonomy that takes over a native vocabulary as it is, to be edited by a person.

    parents: native name -> native names that it implies (of `sources.openimages.read_hierarchy`, say).
    names: native name -> display name; a name without one (Open Images' root "Entity") is left out, since a label
    that is always true teaches nothing.
    """
    natives = [n for n in dict.fromkeys([*parents, *(p for above in parents.values() for p in above)]) if n in names]
    natives.sort(key=lambda native: (names[native].casefold(), native))
    ids: dict[str, str] = {}
    for native in natives:
        slug = re.sub(r"\W+", "_", names[native].strip().casefold()).strip("_") or "label"
        if slug in ids.values():
            slug += "_" + re.sub(r"\W+", "", native)
        taken = set(ids.values())  # names of signs alone have nothing else to tell them apart
        ids[native] = next(s for s in (slug, *(f"{slug}_{n}" for n in range(2, len(natives) + 2))) if s not in taken)
    entries = []
    for native in natives:
        implied = sorted(ids[p] for p in parents.get(native, ()) if p in ids)
        entry = {"id": ids[native], "name": names[native].strip(), "implies": implied, "from": {vocabulary: [native]}}
        entries.append({key: value for key, value in entry.items() if value})
    return yaml.safe_dump({"labels": entries}, sort_keys=False, allow_unicode=True, width=120)
