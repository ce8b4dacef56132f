"""What a taxonomy must not contain; each check raises TaxonomyError with the label and the remedy."""

from __future__ import annotations

from graphlib import CycleError
from itertools import combinations

from tasks.core.errors import TaxonomyError, did_you_mean
from tasks.core.names import unfit
from tasks.taxonomy.taxonomy import Taxonomy


def check_taxonomy(taxonomy: Taxonomy, where: str) -> None:
    """Raise TaxonomyError for the first thing that is wrong. where: the file, for the message."""
    # In this order: each check relies on those before it.
    for check in (_check_ids, _check_implications, _check_exclusions, _check_source_classes, _check_migrations):
        check(taxonomy, where)


def _check_ids(taxonomy: Taxonomy, where: str) -> None:
    if not taxonomy.labels:
        raise TaxonomyError(f"{where}: labels: the list is empty. Add at least one label.")
    if len(taxonomy.index) < len(taxonomy.ids):
        twice = next(i for n, i in enumerate(taxonomy.ids) if i in taxonomy.ids[:n])
        raise TaxonomyError(
            f"{where}: label '{twice}' is defined twice. Ids are unique: merge the two entries or rename one."
        )
    for label in taxonomy.labels:
        if wrong := unfit(label.id):
            raise TaxonomyError(f"{where}: label {label.id!r}: its id {wrong}. Take another id, and keep it as `name`.")
        for key in ("implies", "excludes"):
            for other in getattr(label, key):
                if other not in taxonomy.index:
                    hint = did_you_mean(other, taxonomy.ids)
                    raise TaxonomyError(f"{where}: label '{label.id}': {key}: '{other}' is no label. {hint}")


def _check_implications(taxonomy: Taxonomy, where: str) -> None:
    try:
        taxonomy.parents_first  # noqa: B018  (computed once, kept)
    except CycleError as error:
        path = " -> ".join(reversed(error.args[1]))
        raise TaxonomyError(
            f"{where}: implies: the labels go round in a circle: {path}. Take one of these out."
        ) from error
    for label in taxonomy.labels:
        if label.exhaustive_children and not taxonomy.children[label.id]:
            raise TaxonomyError(
                f"{where}: label '{label.id}': exhaustive_children, but no label implies it. Take the key out."
            )


def _check_exclusions(taxonomy: Taxonomy, where: str) -> None:
    for a, b in sorted(taxonomy.declared_exclusions):
        if a == b:
            raise TaxonomyError(f"{where}: label '{a}' excludes itself. Take it out of its own `excludes`.")
        both = ({a} | taxonomy.descendants[a]) & ({b} | taxonomy.descendants[b])
        if both:
            raise TaxonomyError(
                f"{where}: '{a}' and '{b}' exclude each other, but '{min(both)}' implies both, so it could never be "
                "present. Take the exclusion or an implication out."
            )


def _check_source_classes(taxonomy: Taxonomy, where: str) -> None:
    for vocabulary in taxonomy.vocabularies:
        class_map = taxonomy.class_map(vocabulary)
        for name in taxonomy.drop.get(vocabulary, {}):
            if name in class_map:
                raise TaxonomyError(
                    f"{where}: drop: {vocabulary}: '{name}' also maps to label '{class_map[name][0]}'. Keep one."
                )
        for name, labels in class_map.items():
            for a, b in combinations(labels, 2):
                if (a, b) in taxonomy.exclusions:
                    raise TaxonomyError(
                        f"{where}: from: {vocabulary}: '{name}' maps to both '{a}' and '{b}', which exclude each "
                        "other. Keep one of the two."
                    )


def _check_migrations(taxonomy: Taxonomy, where: str) -> None:
    """Ids are never reused, so that every step can be applied to data of any age, and twice."""
    retired: set[str] = set()
    for number, step in enumerate(taxonomy.migrations, start=1):
        if reused := step.introduced & (retired | step.retired):
            raise TaxonomyError(
                f"{where}: migrations: step {number} brings back '{min(reused)}', which was retired. Take a new id."
            )
        olds = [*step.rename, *(old for olds in step.merge.values() for old in olds), *step.split]
        if again := [old for n, old in enumerate(olds) if old in retired or old in olds[:n]]:
            raise TaxonomyError(
                f"{where}: migrations: step {number} retires '{again[0]}' a second time. Take that out."
            )
        retired |= step.retired
        later = set().union(*(s.retired for s in taxonomy.migrations[number:]))
        for label in sorted(step.introduced - later):
            if label not in taxonomy.index:
                hint = did_you_mean(label, taxonomy.ids)
                raise TaxonomyError(f"{where}: migrations: step {number} leads to '{label}', which is no label. {hint}")
    if reused := retired & set(taxonomy.ids):
        raise TaxonomyError(f"{where}: label '{min(reused)}' was retired by a migration. Take a new id.")
