"""taxonomy.yaml: the project's own labels, how they relate, and which source classes map to them.

    labels:
      - id: seven                 # the name in every table; never reused for something else
        name: Seven               # shown to people; the id when left out
        definition: ""            # for annotators: what counts, in a sentence or two
        implies: [odd]            # direct parents: seven present => odd present, odd absent => seven absent
        excludes: []              # never on one image together with these
        group: null               # labels of one group exclude each other (softmax)
        exhaustive_children: false    # true: absent when all labels that imply it directly are absent
        from:                     # source classes that map to it, by vocabulary
          coco: [seven]
          vendor: ["Sieben", "7"]
        deliver: {precision: 0.9, recall: 0.5}
        fuse: detector:yolo       # add this origin's scores to the model's (tasks/thresholds/fusion.py)
    drop:
      vendor: {smudge: not a digit}
    migrations:
      - rename: {naught: zero}    # also merge: {new: [old, …]} and split: {old: [new, …]}; oldest first

What a `from:` list means. It is the union of the label in that vocabulary: the label is present when one of the source
classes is, and absent only when all of them are. One source class may map to several labels. Where one of those labels
implies the other, the union still holds. Otherwise the class is *ambiguous* ("coffee shop" -> coffee, shop): its
presence counts for each of them, its absence proves nothing. A class that maps to two labels that exclude each other is
refused.

A source whose `vocabulary:` is `taxonomy` has the ids of this file as its classes and needs no `from:`, as do labels
that this project exported earlier. Retired ids go through the migrations first.

What `exhaustive_children` means. The absence of all known children of a label does not prove its absence: a source may
show a vehicle that is none of ours. It does only where the children are all there is (even digits: 0, 2, 4, 6, 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from graphlib import TopologicalSorter
from itertools import combinations
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from tasks.core.errors import TaxonomyError, did_you_mean

OWN = "taxonomy"
"""The vocabulary whose classes are the ids themselves."""


def _not_blank(name: str) -> str:
    if not name.strip():
        raise ValueError("is blank. Write a name, or take it out")
    return name


Name = Annotated[str, AfterValidator(_not_blank)]
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
    exhaustive_children: StrictBool = False
    source_classes: dict[Name, tuple[Name, ...]] = Field(default_factory=dict, alias="from")
    deliver: Deliver | None = None
    fuse: Annotated[str, StringConstraints(pattern=r"^((vendor|detector):.+)?$")] = ""

    @model_validator(mode="after")
    def _own_vocabulary_is_taken(self) -> Label:
        if OWN in self.source_classes:
            raise ValueError(
                f"from: '{OWN}' stands for the ids of this file. Give the supplier's vocabulary another name"
            )
        return self

    @property
    def display_name(self) -> str:
        return self.name or self.id

    def classes_in(self, vocabulary: str) -> tuple[str, ...]:
        """Source classes that map to the label; () where the vocabulary has none."""
        return (self.id,) if vocabulary == OWN else self.source_classes.get(vocabulary, ())


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

    def document(self) -> dict:
        """What training must know of the taxonomy (`Vocabulary` of tasks/core/workspace.py), JSON-ready."""
        return {
            "labels": self.ids,
            "groups": self.exclusive_groups,
            "display_names": [label.display_name for label in self.labels],
        }

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
        return {label: frozenset(labels) for label, labels in below.items()}

    @cached_property
    def children(self) -> dict[str, tuple[str, ...]]:
        """Labels that imply each label directly, in the order of the file."""
        below: dict[str, list[str]] = {label: [] for label in self.ids}
        for label in self.labels:
            for parent in dict.fromkeys(label.implies):
                below[parent].append(label.id)
        return {label: tuple(labels) for label, labels in below.items()}

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
        """`declared_exclusions` and what follows: where a excludes b, their descendants exclude each other too."""
        pairs = {
            (x, y)
            for a, b in self.declared_exclusions
            for x in {a} | self.descendants[a]
            for y in {b} | self.descendants[b]
        }
        return {(x, y) if self.index[x] < self.index[y] else (y, x) for x, y in pairs}

    # ---- source classes

    @cached_property
    def vocabularies(self) -> list[str]:
        """Names of all vocabularies under `from:` and `drop:`, sorted."""
        return sorted({v for label in self.labels for v in label.source_classes} | set(self.drop))

    def class_map(self, vocabulary: str) -> dict[str, list[str]]:
        """Source class -> ids of the labels that it maps to, both in the order of the file."""
        labels_of: dict[str, list[str]] = {}
        for label in self.labels:
            for source_class in dict.fromkeys(label.classes_in(vocabulary)):
                labels_of.setdefault(source_class, []).append(label.id)
        return labels_of

    def ambiguous(self, vocabulary: str) -> dict[str, list[str]]:
        """Source classes that map to labels of which none implies the other -> those labels."""
        return {
            source_class: labels
            for source_class, labels in self.class_map(vocabulary).items()
            if any(b not in self.ancestors[a] and a not in self.ancestors[b] for a, b in combinations(labels, 2))
        }

    def check_sources(self, vocabularies: Mapping[str, Iterable[str]]) -> None:
        """Hold every class under `from:` and `drop:` against those that the sources have.

        vocabularies: vocabulary -> all source classes of it; vocabularies that are not given are not checked.
        Raises TaxonomyError naming the first class that its source lacks, with the nearest that it has.
        """
        for vocabulary, source_classes in vocabularies.items():
            known = set(source_classes)
            class_map = {} if vocabulary == OWN else self.class_map(vocabulary)  # an export may lack what is new
            used = [(f"label '{label}'", name) for name, labels in class_map.items() for label in labels]
            used += [("drop", name) for name in self.drop.get(vocabulary, {})]
            missing = [(where, name) for where, name in used if name not in known]
            if missing:
                where, name = missing[0]
                more = f" ({len(missing) - 1} more such classes)" if len(missing) > 1 else ""
                raise TaxonomyError(
                    f"taxonomy: {where}: '{name}' is no class of vocabulary '{vocabulary}'. "
                    f"{did_you_mean(name, known)} Correct it or take it out.{more}"
                )
