"""Iteratively stratified folds, duplicate groups whole, frozen as data grows; or the source's official test split."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import hstack

from tasks.core.errors import SplitError
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.sampling.label_matrices import absent_matrix, present_matrix
from tasks.sampling.partitions import assert_no_leak, partition, remembered_folds
from tasks.sampling.support import positives, sizes_line, support_lines


def run(params: Params) -> None:
    """Usable images, groups and labels -> partition and fold of every image; earlier answers stay as they are."""
    workspace, section = Workspace(params.paths), params.split
    labels = workspace.vocabulary().labels
    images = workspace.read("mapped.images")
    usable = images.filter(pc.equal(images["status"], "ok")).sort_by("image_id")
    use = [params.sources[source].use for source in usable["source"].to_pylist()]
    groups, rows = workspace.read("deduplicated.groups"), workspace.read("deduplicated.labels")
    assertions = hstack([matrix(rows, usable["image_id"], labels) for matrix in (present_matrix, absent_matrix)], "csr")
    earlier = next((name for name in ("folds", "splits") if workspace.exists(name)), None)
    previous = workspace.read(earlier) if earlier else None

    splits, left_out = partition(
        usable.append_column("use", pa.array(use, pa.string())),
        groups,
        assertions,
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
    workspace.write("splits", splits)
    workspace.write("folds", remembered_folds(usable, splits, previous))

    ledger = Ledger("split")
    ledger.num_in("images", images.num_rows)
    ledger.dropped("images", images.num_rows - usable.num_rows, "quarantined")
    for row in left_out.group_by("reason").aggregate([([], "count_all")]).sort_by("reason").to_pylist():
        ledger.dropped("images", row["count_all"], row["reason"])
    ledger.num_out("images", splits.num_rows)
    ledger.note(sizes_line(splits, labels))
    for line in support_lines(positives(splits, rows, labels), labels):
        ledger.warn(line)
    workspace.book(ledger)
