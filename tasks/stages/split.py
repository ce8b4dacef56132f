"""Iteratively stratified folds, duplicate groups whole, frozen as data grows; or the source's official test split."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import hstack

from tasks.core import tables
from tasks.core.errors import SplitError
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.sampling.split import assert_no_leak, partition
from tasks.sampling.statements import absent_matrix, present_matrix


def run(params: Params) -> None:
    """Usable images, groups and labels -> partition and fold of every image; earlier answers stay as they are."""
    section, labels = params.split, Workspace(params.paths).vocabulary().labels
    images = Workspace(params.paths).read("mapped.images")
    usable = images.filter(pc.equal(images["status"], "ok")).sort_by("image_id")
    use = [params.sources[source].use for source in usable["source"].to_pylist()]
    groups = tables.read_table(params.paths.deduplicated / "groups.parquet", tables.GROUPS)
    rows = tables.read_table(params.paths.deduplicated / "labels.parquet", tables.LABELS)
    statements = hstack([matrix(rows, usable["image_id"], labels) for matrix in (present_matrix, absent_matrix)], "csr")
    previous = tables.read_table(params.paths.splits, tables.SPLITS) if params.paths.splits.exists() else None

    splits, left_out = partition(
        usable.append_column("use", pa.array(use, pa.string())),
        groups,
        statements,
        num_folds=section.num_folds,
        test_folds=section.test_folds,
        calibration_folds=section.calibration_folds,
        official_test=section.official_test,
        official_val=section.official_val,
        seed=params.seed,
        previous=previous,
    )
    assert_no_leak(splits, groups)
    if "train" not in splits["partition"].to_pylist():
        raise SplitError(
            f"no image is left to train on; {usable.num_rows} of {images.num_rows} are usable, and small data may fill "
            "only one fold. See the sources in params.yaml, and split.test_folds and split.calibration_folds."
        )
    tables.write_table(params.paths.splits, splits, tables.SPLITS)

    ledger = Ledger("split")
    ledger.num_in("images", images.num_rows)
    ledger.dropped("images", images.num_rows - usable.num_rows, "quarantined")
    for row in left_out.group_by("reason").aggregate([([], "count_all")]).sort_by("reason").to_pylist():
        ledger.dropped("images", row["count_all"], row["reason"])
    ledger.num_out("images", splits.num_rows)
    for row in splits.group_by("partition").aggregate([([], "count_all")]).sort_by("partition").to_pylist():
        ledger.note(f"{row['partition']}: {row['count_all']}")
    Workspace(params.paths).book(ledger)
