"""A Ray cluster of two nodes, both on this machine: `ingest` gives equal bytes, and the death of a node loses none."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.core.engine import map_batches
from tasks.images import checks
from tasks.images.checks import check_images
from tests.images.pictures import encode, scene

ray = pytest.importorskip("ray", reason="needs the `cluster` extra")

NUMBERS = pa.table({"n": list(range(24))})


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core; RAY_ADDRESS names the cluster."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        ray.shutdown()
    nodes.shutdown()


def slowly(batch: pa.Table, *, folder: Path) -> pa.Table:
    """The batch itself, after a while; the node that worked leaves its name."""
    (folder / ray.get_runtime_context().get_node_id()).touch()
    time.sleep(0.2)
    return batch


def test_images_are_checked_alike_on_a_cluster_and_here(cluster, tmp_path, monkeypatch):
    names = [f"{n}.png" for n in range(12)]
    for n, name in enumerate(names):
        (tmp_path / name).write_bytes(encode(scene(8 + n, 8))[: 30 if n == 7 else None])
    images = pa.table({"image_id": names, "uri": names})
    monkeypatch.setattr(checks, "BATCH_ROWS", 2)
    together = check_images(images, root=tmp_path)
    monkeypatch.delenv("RAY_ADDRESS")
    alone = check_images(images, root=tmp_path)
    assert alone["status"].to_pylist().count("quarantined") == 1
    assert together.equals(alone)


def test_the_death_of_a_node_in_the_middle_loses_and_repeats_no_row(cluster, tmp_path):
    results = map_batches(partial(slowly, folder=tmp_path), NUMBERS, batch_rows=1, workers=1, what="numbers")
    done = []
    while len(list(tmp_path.iterdir())) < 2:  # both have worked
        done.append(next(results))
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    assert len(done) < len(NUMBERS)
    assert pa.concat_tables([*done, *results]).equals(NUMBERS)
