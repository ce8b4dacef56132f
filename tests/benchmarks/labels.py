"""Open Images label rows, from the CSV to one mapped, propagated, de-duplicated table; the peer is pandas.

    python -m tests.benchmarks.labels [--rows R] [--images N] [--no-peer]

601 labels in a tree, true statements about made-up images (so that both must find the same table), half of them
negative, 5 % under names that the taxonomy does not have. Seed 0.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from tasks.taxonomy.drafts import draft_taxonomy
from tasks.taxonomy.reading import parse_taxonomy
from tasks.taxonomy.taxonomy import Taxonomy
from tests.benchmarks import Row, measure, show

NUM_LABELS, NUM_STRANGERS = 601, 400


def main(argv: list[str] | None = None) -> None:
    """Print ours beside pandas: seconds and peak memory of one process each, reading included."""
    parser = argparse.ArgumentParser(prog="labels", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--images", type=int, default=1_870_000)
    parser.add_argument("--no-peer", action="store_true", help="pandas takes over 10 GB")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        parents = random_tree(np.random.default_rng(0))
        write_statements(Path(folder) / "labels.csv", parents, options.rows, options.images)
        ours = measure(map_file, Path(folder), prepare=prepare)
        peer = None if options.no_peer else measure(map_with_pandas, Path(folder) / "labels.csv", parents)
    assert peer is None or ours.value == peer.value, f"different tables: {ours.value} and {peer.value}"
    work = f"{options.rows:,} label rows, CSV -> mapped, propagated, one row a cell ({sum(ours.value):,})"
    rows = [Row(work, ours.seconds, peer and peer.seconds, ours.peak_mb, goal=">= 8x, <= 4 GB")]
    if peer is not None:
        rows.append(Row("the same, peak memory", ours.peak_mb / 1024, peer.peak_mb / 1024, unit="GB"))
    show("labels (peer: pandas)", rows)


def name_of(label: int) -> str:
    return f"/m/0{label:04x}"


def random_tree(rng: np.random.Generator) -> list[int]:
    """Parent of each label, -1 for a root: some 20 roots, mostly two or three levels, as Open Images' boxable tree."""
    return [-1 if n < 20 else int(rng.integers(min(n, 120))) for n in range(NUM_LABELS)]


def closure(parents: list[int]) -> np.ndarray:
    """bool (C, C): [label, ancestor or itself]."""
    reached = np.eye(len(parents), dtype=bool)
    for label, parent in enumerate(parents):  # parents come first
        if parent >= 0:
            reached[label] |= reached[parent]
    return reached


def write_statements(path: Path, parents: list[int], num_rows: int, num_images: int) -> None:
    """human-imagelabels.csv of an image set of which three labels an image and all that they imply are true."""
    rng = np.random.default_rng(0)
    frequency = rng.permutation(1 / (np.arange(NUM_LABELS) + 5))  # long-tailed, at any height of the tree
    frequency /= frequency.sum()
    true_labels = rng.choice(NUM_LABELS, (num_images, 3), p=frequency)
    image = np.sort(rng.integers(num_images, size=num_rows))
    asked = rng.choice(NUM_LABELS, num_rows, p=frequency)
    about_true = rng.random(num_rows) < 0.4
    asked[about_true] = true_labels[image[about_true], rng.integers(3, size=about_true.sum())]
    reached = closure(parents)
    present = reached[true_labels[image, 0], asked]
    for k in (1, 2):
        present |= reached[true_labels[image, k], asked]
    stranger = rng.random(num_rows) < 0.05
    asked[stranger] = NUM_LABELS + rng.integers(NUM_STRANGERS, size=stranger.sum())
    ids = pl.Series([f"{number:016x}" for number in np.sort(rng.integers(2**63, size=num_images))])
    names = pl.Series([name_of(label) for label in range(NUM_LABELS + NUM_STRANGERS)])
    columns = {
        "ImageID": ids.gather(image),
        "Source": pl.repeat("verification", num_rows, eager=True),
        "LabelName": names.gather(asked),
        "Confidence": present.astype(np.int8),
    }
    pl.DataFrame(columns).write_csv(path)


def taxonomy_of(parents: list[int]) -> Taxonomy:
    tree = {name_of(n): {name_of(p)} if p >= 0 else set() for n, p in enumerate(parents)}
    names = {name: f"label {name}" for name in tree}
    return parse_taxonomy(yaml.safe_load(draft_taxonomy(tree, names, "openimages")))


def prepare() -> tuple:
    """The taxonomy; and what is imported and compiled once."""
    from tasks.core.tables import LABELS
    from tasks.mapping.mapping import map_rows
    from tasks.sources import openimages_tables  # noqa: F401

    taxonomy = taxonomy_of(random_tree(np.random.default_rng(0)))
    map_rows(LABELS.empty_table(), taxonomy, "openimages")
    return (taxonomy,)


def map_file(folder: Path, taxonomy: Taxonomy) -> tuple[int, int]:
    """Present and absent cells, by the reader of the CSV and the mapping that the pipeline uses."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.mapping.mapping import map_rows
    from tasks.sources.openimages_tables import HUMAN, read_image_labels

    stated = read_image_labels(folder / "labels.csv", None, HUMAN)
    ids = pc.binary_join_element_wise("openimages", stated.image_ids.dictionary.cast(pa.string()), "/")
    rows = pa.table(
        {
            "image_id": pa.DictionaryArray.from_arrays(stated.image_ids.indices, ids),
            "label": stated.classes,
            "state": stated.confidences.astype(np.int8),
            "confidence": np.ones(stated.num_rows, np.float32),
            "origin": pa.DictionaryArray.from_arrays(np.zeros(stated.num_rows, np.int8), [HUMAN]),
        }
    )
    del stated
    mapped = map_rows(rows, taxonomy, "openimages")
    present = pc.sum(mapped.labels["state"]).as_py()
    return present, mapped.labels.num_rows - present


def map_with_pandas(path: Path, parents: list[int]) -> tuple[int, int]:
    """The same with merge and drop_duplicates."""
    import pandas as pd

    pairs = [(name_of(label), name_of(ancestor)) for label, ancestor in np.argwhere(closure(parents))]
    up = pd.DataFrame(pairs, columns=["LabelName", "label"])
    down = up.rename(columns={"LabelName": "label", "label": "LabelName"})
    rows = pd.read_csv(path)
    rows["image_id"] = "openimages/" + rows["ImageID"]
    cell = ["image_id", "label"]
    present = rows[rows["Confidence"] == 1].merge(up, on="LabelName")[cell].drop_duplicates().assign(state=1)
    absent = rows[rows["Confidence"] == 0].merge(down, on="LabelName")[cell].drop_duplicates().assign(state=0)
    mapped = pd.concat([present, absent])
    return int((mapped["state"] == 1).sum()), int((mapped["state"] == 0).sum())


if __name__ == "__main__":
    main()
