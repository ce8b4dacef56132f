"""Whether the sources and the taxonomy mean the same vocabularies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.core.errors import TaxonomyError, did_you_mean
from tasks.mapping.mapping import Mapped
from tasks.mapping.source_mapping import Source
from tasks.taxonomy.taxonomy import OWN, Taxonomy


def declared_classes(sources: Iterable[Source]) -> dict[str, set[str]]:
    """Vocabulary -> its source classes, over all annotated sources that use it; vendors name what they like."""
    classes: dict[str, set[str]] = {}
    for source in sources:
        if source.use in ("train", "pretrain") and source.classes:
            classes.setdefault(source.vocabulary, set()).update(source.classes)
    return classes


def check_vocabularies(sources: Iterable[Source], taxonomy: Taxonomy, *, where: Path) -> None:
    """Raise TaxonomyError when the taxonomy has no class of a source's vocabulary. where: the taxonomy's file.

    A source without a class and a row needs none.
    """
    known = [*taxonomy.vocabularies, OWN]
    for source in sorted(sources, key=lambda source: source.name):
        if (source.classes or source.labels.num_rows) and source.vocabulary not in known:
            raise TaxonomyError(
                f"{where}: no label has names `from: {source.vocabulary}`, the vocabulary of source {source.name}. "
                f"{did_you_mean(source.vocabulary, known)} "
                f"Set sources.{source.name}.vocabulary in params.yaml, or name it here."
            )


def unused_vocabularies(vocabularies: Iterable[str], taxonomy: Taxonomy) -> list[str]:
    """Vocabularies of the taxonomy that no source uses: one that is planned, or one that is misspelt."""
    used = set(vocabularies)
    return [vocabulary for vocabulary in taxonomy.vocabularies if vocabulary not in used]


def refuse_unmapped(mapped: Mapping[str, Mapped], *, where: Path) -> None:
    """Raise TaxonomyError when a source has a class that the taxonomy does not name. where: the taxonomy's file."""
    for name, result in mapped.items():
        for source_class, rows in result.unmapped.most_common(1):
            raise TaxonomyError(
                f"{where}: '{source_class}' of source {name} ({rows} rows) stands nowhere. "
                "Map it under `from:`, declare it under `drop:`, or set map_labels.unmapped to report."
            )
