"""Sizes of annotated objects in the project's vocabulary."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from tasks.core.tables import OBJECTS
from tasks.taxonomy.taxonomy import Taxonomy


def map_objects(objects: pa.Table, taxonomy: Taxonomy, vocabulary: str) -> pa.Table:
    """OBJECTS of the labels that each source class maps to and of all that these imply, the largest of each image.

    objects: OBJECTS with source classes.  vocabulary: key under `from:`.
    """
    links = [
        {"label": name, "own": own}
        for label in taxonomy.labels
        for name in label.classes_in(vocabulary)
        for own in (label.id, *taxonomy.ancestors[label.id])
    ]
    if not links or not objects.num_rows:
        return OBJECTS.empty_table()
    mapped = (
        pl.from_arrow(objects)
        .join(pl.DataFrame(links).unique(), on="label")
        .group_by("image_id", pl.col("own").alias("label"))
        .agg(pl.col("area_px").max())
        .sort("image_id", "label")
    )
    return mapped.to_arrow().cast(OBJECTS)
