"""Predictions on the images that they are about: vendors are handed files and answer with file names."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def match_images(labels: pa.Table, images: pa.Table) -> tuple[pa.Table, list[str]]:
    """Label rows with ids that exist, and the ids that match no image.

    labels: LABELS of predictions.  images: image_id and uri columns. An id matches as it is, or
    when what follows the source's name is the file name (the last part of the uri) of exactly one image: vendors are
    handed files and answer with file names. Rows that match nothing are left out.
    """
    by_id = {image_id: image_id for image_id in images["image_id"].to_pylist()}
    by_name: dict[str, str | None] = {}
    for image_id, uri in zip(images["image_id"].to_pylist(), images["uri"].to_pylist(), strict=True):
        key = f"{image_id.split('/', 1)[0]}/{uri.rsplit('/', 1)[-1]}"
        by_name[key] = None if key in by_name else image_id
    encoded = pc.dictionary_encode(labels["image_id"]).combine_chunks()
    given = encoded.dictionary.to_pylist()
    matched = [by_id.get(image_id) or by_name.get(image_id) for image_id in given]
    column = pa.array(matched, pa.string()).take(encoded.indices)
    rows = labels.set_column(0, labels.schema.field("image_id").with_nullable(True), column)
    rows = rows.filter(pc.is_valid(rows["image_id"])).cast(labels.schema)
    return rows, [image_id for image_id, match in zip(given, matched, strict=True) if match is None]
