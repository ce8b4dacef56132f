"""Predictions on the images that they are about: vendors are handed files and answer with file names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.picture_names import Ambiguous, PictureNames

NOT_LISTED = "prediction on an image that no source lists"
SEVERAL = "prediction on a name that several images answer to"


@dataclass(frozen=True)
class Matched:
    """Predictions with ids that exist. lost: id as given -> why it has no image.  dropped: reason -> rows."""

    rows: pa.Table
    lost: dict[str, str]
    dropped: Counter[str]


def match_images(labels: pa.Table, images: pa.Table) -> Matched:
    """Label rows with ids that exist; rows that match nothing, or several images, are left out and counted.

    labels: LABELS of predictions, ids `<source>/<name>`.  images: image_id and uri columns.
    An id matches as it is, or when what follows the source's name is the name of exactly one image of that source
    (tasks/core/picture_names.py).
    """
    known = set(images["image_id"].to_pylist())
    encoded = pc.dictionary_encode(labels["image_id"]).combine_chunks()
    given = encoded.dictionary.to_pylist()
    names: dict[str, PictureNames] = {}
    answers: list[str | Ambiguous | None] = []
    for image_id in given:
        if image_id in known:
            answers.append(image_id)
            continue
        source, _, name = image_id.partition("/")
        if source not in names:
            names[source] = _names_of(source, images)
        answers.append(name if name in known and name.startswith(f"{source}/") else names[source].find(name))
    matched = [match if isinstance(match, str) else None for match in answers]
    lost = {
        image_id: SEVERAL if isinstance(match, Ambiguous) else NOT_LISTED
        for image_id, match in zip(given, answers, strict=True)
        if not isinstance(match, str)
    }
    column = pa.array(matched, pa.string()).take(encoded.indices)
    rows = labels.set_column(0, labels.schema.field("image_id").with_nullable(True), column)
    num_rows = Counter(labels["image_id"].to_pylist()) if lost else Counter()
    dropped: Counter[str] = Counter()
    for image_id, reason in lost.items():
        dropped[reason] += num_rows[image_id]
    return Matched(rows.filter(pc.is_valid(rows["image_id"])).cast(labels.schema), lost, dropped)


def _names_of(source: str, images: pa.Table) -> PictureNames:
    own = images.filter(pc.starts_with(images["image_id"], f"{source}/"))
    return PictureNames.of_images(own["image_id"].to_pylist(), own["uri"].to_pylist())
