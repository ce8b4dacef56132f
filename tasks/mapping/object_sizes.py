"""Sizes of annotated objects in the project's vocabulary."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from tasks.core.tables import OBJECTS
from tasks.taxonomy.taxonomy import Taxonomy


def map_objects(objects: pa.Table, taxonomy: Taxonomy, vocabulary: str) -> pa.Table:
    """OBJECTS of the labels that each native name feeds and of all that these imply, the largest of each image.

    objects: OBJECTS with native names.  vocabulary: key under `from:`.
    """
    fed = [
        {"label": native, "own": own}
        for label in taxonomy.labels
        for native in label.names_in(vocabulary)
        for own in (label.id, *taxonomy.ancestors[label.id])
    ]
    if not fed or not objects.num_rows:
        return OBJECTS.empty_table()
    mapped = (
        pl.from_arrow(objects)
        .join(pl.DataFrame(fed).unique(), on="label")
        .group_by("image_id", pl.col("own").alias("label"))
        .agg(pl.col("area_px").max())
        .sort("image_id", "label")
    )
    return mapped.to_arrow().cast(OBJECTS)
