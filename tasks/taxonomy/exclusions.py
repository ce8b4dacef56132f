"""Present labels that the taxonomy forbids together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
import pyarrow as pa

from tasks.taxonomy.taxonomy import Taxonomy


def exclusion_violations(labels: pa.Table, taxonomy: Taxonomy) -> pl.DataFrame:
    """Pairs of present labels that exclude each other: image_id, label, other; label first in the taxonomy.

    labels: LABELS in the taxonomy's ids. Rows stay as they are: which of the two is wrong, a person must say.
    """
    pairs = sorted(taxonomy.exclusions)
    pairs = pl.DataFrame(
        {"label": [a for a, _ in pairs], "other": [b for _, b in pairs]},
        schema=dict.fromkeys(["label", "other"], pl.String),
    )
    involved = pl.concat([pairs["label"], pairs["other"]]).unique()
    present = (
        pl.DataFrame(pl.from_arrow(labels.select(["image_id", "label", "state"])))
        .lazy()
        .filter(pl.col("state") == 1)
        .with_columns(pl.col("image_id", "label").cast(pl.String))
        .filter(pl.col("label").is_in(involved.implode()))
        .select("image_id", "label")
        .collect()
    )
    others = present.rename({"label": "other"})
    return present.join(pairs, on="label").join(others, on=["image_id", "other"]).sort("image_id", "label", "other")


def contradiction_line(rows: Sequence[Mapping[str, str]]) -> str:
    """For a terminal: how many pairs cannot be true beside others of their image, and the first; '' without one.

    rows: image_id, label, kind.
    """
    if not rows:
        return ""
    return (
        f"{len(rows)} pairs contradict others of their image, e.g. {rows[0]['label']!r} of {rows[0]['image_id']} "
        f"({rows[0]['kind']}); `python -m tasks explain` shows whose they are"
    )
