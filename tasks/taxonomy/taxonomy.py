"""taxonomy.yaml: the project's own labels, how they relate, and which native names of each source feed them.

    labels:
      - id: seven                 # the name in every table; never reused for something else
        name: Seven               # shown to people; the id when left out
        definition: ""            # for people who judge it: what counts, in a sentence or two
        implies: [odd]            # direct parents: seven present => odd present, odd absent => seven absent
        excludes: []              # never on one image together with these
        group: null               # labels of one group exclude each other (softmax)
        closed: false             # true: the labels that imply this one are all there is of it
        from:                     # native names, by vocabulary
          coco: [seven]
          vendor: ["Sieben", "7"]
        deliver: {precision: 0.9, recall: 0.5}
        fuse: detector:yolo       # judge it by this origin's proposals as well (tasks/thresholds/fusion.py)
    drop:
      vendor: {smudge: not a digit}
    migrations:
      - rename: {naught: zero}    # also merge: {new: [old, …]} and split: {old: [new, …]}; oldest first

What a `from:` list means. It is the union of the label in that vocabulary: the label is present when one of the names
is, and absent only when all of them are. One native name may feed several labels. Where one of those labels implies the
other, the union still holds. Otherwise the name is *ambiguous* ("coffee shop" -> coffee, shop): its presence counts for
each of them, its absence proves nothing. A name that feeds two labels that exclude each other is refused.

A source whose `vocabulary:` is `taxonomy` speaks in the ids of this file and needs no `from:`, as do labels that this
project exported earlier. Retired ids go through the migrations first.

What `closed` means. The absence of all known kinds of a thing does not prove the absence of the thing: a source may
show a vehicle that is none of ours. Only for a closed label (even digits: 0, 2, 4, 6, 8) does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from graphlib import TopologicalSorter
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, ValidationError, model_validator

from tasks.core.errors import TaxonomyError, did_you_mean
from tasks.taxonomy.consistency import check_taxonomy

OWN = "taxonomy"
"""The vocabulary whose native names are the ids themselves."""

Name = Annotated[str, StringConstraints(min_length=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Deliver(_Entry):
    """Precision and recall that the label must reach before it is delivered, in [0, 1]."""

    precision: Fraction
    recall: Fraction


class Label(_Entry):
    """One label of the project; the module docstring says what each key means."""

    id: Name
    name: str = ""
    definition: str = ""
    implies: tuple[Name, ...] = ()
    excludes: tuple[Name, ...] = ()
    group: Name | None = None
    closed: StrictBool = False
    natives: dict[Name, tuple[Name, ...]] = Field(default_factory=dict, alias="from")
    deliver: Deliver | None = None
    fuse: Annotated[str, StringConstraints(pattern=r"^((vendor|detector):.+)?$")] = ""

    @model_validator(mode="after")
    def _own_vocabulary_is_taken(self) -> Label:
        if OWN in self.natives:
            raise ValueError(
                f"from: '{OWN}' stands for the ids of this file. Give the supplier's vocabulary another name"
            )
        return self

    @property
    def display_name(self) -> str:
        return self.name or self.id

    def names_in(self, vocabulary: str) -> tuple[str, ...]:
        """Native names that feed the label; () where the vocabulary has none."""
        return (self.id,) if vocabulary == OWN else self.natives.get(vocabulary, ())


class Migration(_Entry):
    """One step in the life of the vocabulary: exactly one of rename, merge, split."""

    rename: dict[Name, Name] = Field(default_factory=dict)
    merge: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    split: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    note: str = ""

    @model_validator(mode="after")
    def _one_kind(self) -> Migration:
        if sum(map(bool, (self.rename, self.merge, self.split))) != 1:
            raise ValueError("give exactly one of rename, merge, split in a step")
        return self

    @property
    def retired(self) -> set[str]:
        """Ids that no table may hold after this step."""
        return {*self.rename, *(old for olds in self.merge.values() for old in olds), *self.split}

    def successors(self, label: str) -> tuple[str, ...]:
        """What the label is called after this step: one name, or several after a split."""
        if label in self.rename:
            return (self.rename[label],)
        merged = tuple(new for new, olds in self.merge.items() if label in olds)
        return self.split.get(label) or merged or (label,)

    @property
    def introduced(self) -> set[str]:
        """Ids that this step writes."""
        return set(self.rename.values()) | set(self.merge) | {new for news in self.split.values() for new in news}


class Taxonomy(_Entry):
    """All of taxonomy.yaml, checked. Column c of every (N, C) matrix is label `ids[c]`."""

    labels: tuple[Label, ...]
    drop: dict[Name, dict[Name, str]] = Field(default_factory=dict)
    migrations: tuple[Migration, ...] = ()

    # ---- names

    @cached_property
    def ids(self) -> list[str]:
        """Label ids in the order of the file."""
        return [label.id for label in self.labels]

    @cached_property
    def index(self) -> dict[str, int]:
        """Column of each label id."""
        return {label: c for c, label in enumerate(self.ids)}

    def __getitem__(self, label: str) -> Label:
        return self.labels[self.index[label]]

    # ---- implications

    @cached_property
    def parents_first(self) -> list[str]:
        """Every label after all that it implies."""
        return list(TopologicalSorter({label.id: label.implies for label in self.labels}).static_order())

    @cached_property
    def ancestors(self) -> dict[str, frozenset[str]]:
        """All labels that each label implies, directly or not; without itself."""
        closure: dict[str, frozenset[str]] = {}
        for label in self.parents_first:
            closure[label] = frozenset().union(*({p} | closure[p] for p in self[label].implies))
        return closure

    @cached_property
    def descendants(self) -> dict[str, frozenset[str]]:
        """All labels that imply each label, directly or not; without itself."""
        below: dict[str, set[str]] = {label: set() for label in self.ids}
        for label, above in self.ancestors.items():
            for ancestor in above:
                below[ancestor].add(label)
        return {label: frozenset(found) for label, found in below.items()}

    @cached_property
    def children(self) -> dict[str, tuple[str, ...]]:
        """Labels that imply each label directly, in the order of the file."""
        below: dict[str, list[str]] = {label: [] for label in self.ids}
        for label in self.labels:
            for parent in dict.fromkeys(label.implies):
                below[parent].append(label.id)
        return {label: tuple(found) for label, found in below.items()}

    @cached_property
    def implications(self) -> tuple[tuple[int, int], ...]:
        """All pairs (column of a label, column of something that it implies), directly or not; sorted."""
        pairs = ((self.index[label], self.index[a]) for label, above in self.ancestors.items() for a in above)
        return tuple(sorted(pairs))

    # ---- exclusions

    @cached_property
    def exclusive_groups(self) -> list[list[int]]:
        """Columns of each `group:`, in the order of the file; a group of one is left out."""
        return [[self.index[label] for label in members] for members in self.groups.values()]

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Labels of each `group:`, in the order of the file; a group of one is left out."""
        groups: dict[str, list[str]] = {}
        for label in self.labels:
            if label.group is not None:
                groups.setdefault(label.group, []).append(label.id)
        return {name: members for name, members in groups.items() if len(members) > 1}

    @cached_property
    def declared_exclusions(self) -> set[tuple[str, str]]:
        """Pairs (a, b), a before b in the file, that `excludes:` or a shared `group:` forbids together."""
        pairs = {(label.id, other) for label in self.labels for other in label.excludes}
        for columns in self.exclusive_groups:
            pairs |= {(self.ids[a], self.ids[b]) for a, b in combinations(columns, 2)}
        return {(a, b) if self.index[a] < self.index[b] else (b, a) for a, b in pairs}

    @cached_property
    def exclusions(self) -> set[tuple[str, str]]:
        """`declared_exclusions` and what follows: where a excludes b, all kinds of a exclude all kinds of b."""
        pairs = {
            (x, y)
            for a, b in self.declared_exclusions
            for x in {a} | self.descendants[a]
            for y in {b} | self.descendants[b]
        }
        return {(x, y) if self.index[x] < self.index[y] else (y, x) for x, y in pairs}

    # ---- native names

    @cached_property
    def vocabularies(self) -> list[str]:
        """Names of all vocabularies under `from:` and `drop:`, sorted."""
        return sorted({v for label in self.labels for v in label.natives} | set(self.drop))

    def claims(self, vocabulary: str) -> dict[str, list[str]]:
        """Native name -> ids of the labels that it feeds, both in the order of the file."""
        claimed: dict[str, list[str]] = {}
        for label in self.labels:
            for native in dict.fromkeys(label.names_in(vocabulary)):
                claimed.setdefault(native, []).append(label.id)
        return claimed

    def ambiguous(self, vocabulary: str) -> dict[str, list[str]]:
        """Native names that feed labels of which none implies the other -> those labels."""
        return {
            native: labels
            for native, labels in self.claims(vocabulary).items()
            if any(b not in self.ancestors[a] and a not in self.ancestors[b] for a, b in combinations(labels, 2))
        }

    def check_sources(self, vocabularies: Mapping[str, Iterable[str]]) -> None:
        """Hold every `from:` and `drop:` name against the native names that the sources have.

        vocabularies: vocabulary -> all native names of it; vocabularies that are not given are not checked.
        Raises TaxonomyError naming the first name that its source lacks, with the nearest that it has.
        """
        for vocabulary, names in vocabularies.items():
            known = set(names)
            claims = {} if vocabulary == OWN else self.claims(vocabulary)  # an export may lack what is new
            used = [(f"label '{label}'", native) for native, labels in claims.items() for label in labels]
            used += [("drop", native) for native in self.drop.get(vocabulary, {})]
            missing = [(where, native) for where, native in used if native not in known]
            if missing:
                where, native = missing[0]
                more = f" ({len(missing) - 1} more such names)" if len(missing) > 1 else ""
                raise TaxonomyError(
                    f"taxonomy: {where}: '{native}' is no name of vocabulary '{vocabulary}'. "
                    f"{did_you_mean(native, known)} Correct it or take it out.{more}"
                )


# ---------------------------------------------------------------- reading


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
        raise TaxonomyError(f"{path}{at}: not valid YAML ({getattr(error, 'problem', None) or error}).") from error
    return parse_taxonomy(raw, where=str(path))


def parse_taxonomy(raw: Any, *, where: str = "taxonomy") -> Taxonomy:
    """Taxonomy from the parsed YAML (see the module docstring for its keys). Raises TaxonomyError."""
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
        model = {1: Taxonomy, 3: Label if location[0] == "labels" else Migration}.get(len(location), Deliver)
        known = {field.alias or name for name, field in model.model_fields.items()}
        return f"{where}: {place}: unknown key. {did_you_mean(str(location[-1]), known)}{more}"
    message = _EXPECTED.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    found = problem.get("input")
    shown = "" if isinstance(found, (dict, BaseModel)) else f", found {found!r}"
    # YAML reads a bare 7, no or 2024-01-01 as a number, a truth value, a date.
    hint = ' Put it in quotes: "…".' if problem["type"] == "string_type" and not isinstance(found, (dict, list)) else ""
    return f"{where}: {place}: {message}{shown}.{hint}{more}"
