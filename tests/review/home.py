"""A folder with just the files of a run that reviewing reads: four pictures, two labels, four questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tasks.core import tables
from tasks.core.prediction_table import write_predictions
from tasks.params import Params, load_params
from tests.imports import ROOT
from tests.review.tables_of import groups_of, images_of, labels_of, predictions_of, queue_of

LABELS = {"cat": "Cat", "犬": "Hund & Co"}
QUEUE = queue_of(
    ("toy/a", "cat", 1, 0.1, 0.9, "mistaken?"),
    ("toy/b", "cat", 0, 0.8, 0.8, "missing?"),
    ("toy/a", "犬", 0, 0.7, 0.3, "missing?"),
    ("toy/c", "犬", -1, 0.5, 0.2, "unknown"),
)

TAXONOMY = """
labels:
  - {id: pet, name: Pet}
  - id: cat
    name: Cat
    definition: A living cat, not a drawn one.
    implies: [pet]
    excludes: [犬]
    from: {coco: [cat, kitten]}
  - {id: 犬, name: Hund & Co, implies: [pet]}
"""


def new_home(folder: Path, *, port: int) -> Params:
    """Write the files under `folder`, which must be the working directory, and return its params."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["review"].update(dataset="toy", port=port)
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    loaded = load_params()
    paths = loaded.paths
    for number, name in enumerate("abcd"):
        path = folder / f"pictures/toy/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 48, 3), 60 * number, np.uint8)).save(path)
    ids = [f"toy/{name}" for name in "abcd"]
    broken = {"toy/broken": "not an image"}
    tables.write_table(paths.mapped / "images.parquet", images_of(*ids, quarantined=broken, uri="pictures/{}.png"))
    write_vocabulary(loaded, LABELS)
    write_taxonomy(loaded)
    labels = labels_of(("toy/a", "cat", 1), ("toy/b", "cat", 0), ("toy/d", "cat", 1))
    tables.write_table(paths.cleaned / "labels.parquet", labels)
    tables.write_table(paths.cleaned / "queue.parquet", QUEUE)
    tables.write_table(paths.cleaned / "unknown.parquet", tables.empty(tables.UNKNOWN))
    tables.write_table(paths.mapped / "coverage.parquet", tables.empty(tables.COVERAGE))
    groups = groups_of(**{"toy/a": "a", "toy/b": "b", "toy/c": "c", "toy/d": "c"})
    tables.write_table(paths.deduplicated / "groups.parquet", groups)
    scores = {image_id: [0.1 * place, 1 - 0.1 * place] for place, image_id in enumerate(ids)}
    embeddings = np.asarray([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], np.float32)
    partitions = ["train", "train", "pool", "train"]
    predictions = predictions_of(list(LABELS), scores, partitions=partitions, embeddings_ND=embeddings)
    write_predictions(paths.out_of_fold, predictions)
    return loaded


def write_vocabulary(params: Params, names: dict[str, str]) -> None:
    """As `map_labels` does. names: label -> name shown."""
    vocabulary = {"labels": list(names), "groups": [], "display_names": list(names.values())}
    tables.write_json(params.paths.mapped / "vocabulary.json", vocabulary)


def write_taxonomy(params: Params, text: str = TAXONOMY) -> None:
    params.paths.taxonomy.parent.mkdir(parents=True, exist_ok=True)
    params.paths.taxonomy.write_text(text, encoding="utf-8")
