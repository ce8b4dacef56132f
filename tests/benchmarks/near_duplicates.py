"""Near duplicates among a million hashes, against comparing all pairs and against a BK-tree."""

from __future__ import annotations

import time

import numpy as np

from tasks.images.near_duplicates import near_pairs
from tests.benchmarks import Row, measure, show

NUM_HASHES, RADIUS, PLANTED = 1_000_000, 4, 0.05


def planted_hashes(num_hashes: int) -> tuple[np.ndarray, np.ndarray]:
    """Random hashes; the last 5 % differ from an earlier one in up to 4 bits. And the position of that one."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, num_hashes, dtype=np.uint64)
    num_planted = int(num_hashes * PLANTED)
    original = rng.integers(0, num_hashes - num_planted, num_planted)
    copies = hashes[original]
    for _ in range(RADIUS):
        copies ^= np.uint64(1) << rng.integers(0, 64, num_planted).astype(np.uint64)
    hashes[-num_planted:] = copies
    return hashes, original


def prepare() -> tuple[np.ndarray]:
    near_pairs(np.arange(10, dtype=np.uint64), radius=RADIUS)
    return (planted_hashes(NUM_HASHES)[0],)


def ours(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return near_pairs(hashes, radius=RADIUS)[:2]


def recall(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the planted pairs that were found."""
    original = planted_hashes(NUM_HASHES)[1]
    planted = original * NUM_HASHES + np.arange(NUM_HASHES - len(original), NUM_HASHES)
    return float(np.isin(planted, first * NUM_HASHES + second).mean())


def all_pairs_extrapolated(sample: int = 600) -> float:
    """Seconds that ImageHash's own comparison would need for all pairs, from `sample` hashes."""
    import imagehash

    hashes = [imagehash.hex_to_hash(f"{h:016x}") for h in planted_hashes(sample)[0].tolist()]
    start = time.perf_counter()
    sum(a - b <= RADIUS for i, a in enumerate(hashes) for b in hashes[:i])
    return (time.perf_counter() - start) / (sample * (sample - 1)) * (NUM_HASHES * (NUM_HASHES - 1))


class BKTree:
    """Burkhard and Keller, 1973: children by their distance to the node."""

    def __init__(self, hashes: list[int]) -> None:
        self.root = (hashes[0], {})
        for value in hashes[1:]:
            node, children = self.root
            while (distance := (node ^ value).bit_count()) in children:
                node, children = children[distance]
            children[distance] = (value, {})

    def within(self, value: int, radius: int) -> int:
        """How many hashes lie within the radius."""
        found, stack = 0, [self.root]
        while stack:
            node, children = stack.pop()
            distance = (node ^ value).bit_count()
            found += distance <= radius
            stack += [child for d, child in children.items() if abs(d - distance) <= radius]
        return found


def bk_tree_extrapolated(sample: int = 50_000, queries: int = 100) -> float:
    """Seconds for a query by each hash in a tree of `sample`; a tree of them all would be slower, not faster."""
    hashes = planted_hashes(sample)[0].tolist()
    start = time.perf_counter()
    tree = BKTree(hashes)
    built = time.perf_counter() - start
    start = time.perf_counter()
    for value in hashes[-queries:]:
        tree.within(value, RADIUS)
    return built / sample * NUM_HASHES + (time.perf_counter() - start) / queries * NUM_HASHES


def main(argv: list[str]) -> None:
    run = measure(ours, prepare=prepare)
    title = (
        f"Near duplicates among {NUM_HASHES:,} hashes, radius {RADIUS}, 5 % planted; recall {recall(*run.value):.4f}"
    )
    show(
        title,
        [
            Row(
                "peer: ImageHash, all pairs, extrapolated",
                run.seconds,
                all_pairs_extrapolated(),
                run.peak_mb,
                "<= 60 s, recall 1",
            ),
            Row(
                "peer: BK-tree in Python, extrapolated",
                run.seconds,
                bk_tree_extrapolated(),
                run.peak_mb,
                "<= 60 s, recall 1",
            ),
        ],
    )
