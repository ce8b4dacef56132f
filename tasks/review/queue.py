"""The questions that are worth a person's time, best first, streamed over any number of images.

Axes: B images of a block, C labels. A question is a cell: "is there a forest on this image?". Its worth is the
probability that the answer changes the cleaned data, times how rare the label is: one mended positive of a label with
20 of them moves its average precision more than one of 20,000. A share of the questions is drawn at random instead, to
measure how wrong the annotations really are (audit.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from tasks.cleaning.policies import Cleaned
from tasks.core import tables
from tasks.core.states import States

RARITY = 0.5  # as r(I) of the square-root sampler: a label ten times as rare counts about three times as much
WEIGHT_RANGE = (0.25, 4.0)
LEAST_YIELD = 0.05
AUDIT = "audit"
_Cell = tuple[str, int]  # image_id, column


@dataclass(frozen=True)
class Block:
    """Cells that may be asked, for a run of images.

    image_ids: B.  given_BC: int8 in {1, 0, -1 unknown}, as annotated.  present_BC: float in [0, 1].
    worth_BC: float >= 0, expected gain of a verdict; 0 is never asked, except in the audit.
    auditable_BC: bool, cells that belong to the population whose error rate is measured; must be known.
    """

    image_ids: Sequence[str]
    given_BC: np.ndarray
    present_BC: np.ndarray
    worth_BC: np.ndarray
    auditable_BC: np.ndarray


def label_weights(num_positives_C: np.ndarray) -> np.ndarray:
    """How much a verdict on each label counts: (median of positives / positives) ** RARITY, in WEIGHT_RANGE.

    num_positives_C: present cells of each label.
    """
    positives_C = np.maximum(num_positives_C, 1).astype(np.float64)
    return np.clip((np.median(positives_C) / positives_C) ** RARITY, *WEIGHT_RANGE)


def questions(
    dense: States,
    decided: Iterable[tuple[np.ndarray, Cleaned]],
    *,
    answered: Collection[tuple[str, str]] = (),
    reopened: Collection[tuple[str, str]] = (),
    budget: int,
    audit_share: float,
    seed: int,
) -> pa.Table:
    """QUEUE about the images of `dense` as a policy left them.

    decided: positions of a block of images, and what the policy decided about them; all images, each once.
    answered: (image_id, label) about which nobody is asked.
    reopened: (image_id, label) on which people are at odds, or that a split has left open: asked as if nothing had been
        annotated, on images and labels that `dense` lacks as well (of a test image, say).
    The stop rule: nothing is asked whose answer changes the data with a probability below LEAST_YIELD.
    """
    askable_NC, settled_NC = open_cells(dense, answered), open_cells(dense, reopened)
    weight_C = label_weights((dense.known_NC & (dense.targets_NC == 1)).sum(axis=0))

    def blocks() -> Iterator[Block]:
        for rows, cleaned in decided:
            askable_BC, settled_BC = askable_NC[rows], settled_NC[rows]
            known_BC = dense.known_NC[rows] & settled_BC
            doubt_BC = np.where(settled_BC, cleaned.doubt_NC, 0.5)
            yield Block(
                image_ids=[dense.image_ids[n] for n in rows],
                given_BC=np.where(known_BC, dense.targets_NC[rows], tables.UNKNOWN_STATE).astype(np.int8),
                present_BC=np.where(settled_BC, cleaned.present_NC, 0.5),
                worth_BC=np.where(askable_BC & (doubt_BC >= LEAST_YIELD), doubt_BC * weight_C, 0.0),
                auditable_BC=askable_BC & known_BC,
            )

    ids, labels = set(dense.image_ids), set(dense.labels)
    elsewhere = sorted((h, i) for i, h in reopened if i not in ids or h not in labels)[:budget]
    queue = build_queue(blocks(), dense.labels, budget=budget - len(elsewhere), audit_share=audit_share, seed=seed)
    asked = {"given": tables.UNKNOWN_STATE, "score": 0.5, "priority": 0.5, "reason": "unknown"}
    first = pa.Table.from_pylist([{"image_id": i, "label": h, **asked} for h, i in elsewhere], schema=tables.QUEUE)
    return pa.concat_tables([first, queue])


def open_cells(dense: States, closed: Collection[tuple[str, str]]) -> np.ndarray:
    """bool (N, C): False for the (image_id, label) in `closed`."""
    position = {image_id: n for n, image_id in enumerate(dense.image_ids)}
    column = {label: c for c, label in enumerate(dense.labels)}
    cells = [(position[i], column[h]) for i, h in closed if i in position and h in column]
    open_NC = np.ones(dense.known_NC.shape, bool)
    open_NC[tuple(np.asarray(cells, np.int64).reshape(-1, 2).T)] = False
    return open_NC


def build_queue(
    blocks: Iterable[Block], labels: Sequence[str], *, budget: int, audit_share: float, seed: int
) -> pa.Table:
    """QUEUE of at most `budget` questions, one label after the other, the label with the most to gain first.

    audit_share: of the budget; half of it among cells annotated present, half among those annotated absent, each cell
        with the same chance. The draw depends on the seed and the cell alone, so an unanswered audit stays the same.
    """
    num_audit = round(budget * audit_share)
    ranked = _Best(budget - num_audit)
    audits = {state: _Best(num) for state, num in ((1, num_audit // 2), (0, num_audit - num_audit // 2))}
    for block in blocks:
        ranked.offer(block, block.worth_BC)
        if num_audit:
            lot_BC = lots(block.image_ids, labels, seed=seed)
            for state, best in audits.items():
                best.offer(block, np.where(block.auditable_BC & (block.given_BC == state), lot_BC, 0.0))
    asked = {**ranked.rows, **audits[0].rows, **audits[1].rows}
    audited = audits[0].rows.keys() | audits[1].rows.keys()
    return _table(asked, audited, labels)


def lots(image_ids: Sequence[str], labels: Sequence[str], *, seed: int) -> np.ndarray:
    """Each cell's lot in the audit, float64 (B, C) in (0, 1], the highest first; of the seed and the cell alone."""
    salt_C = _hash(np.asarray([_number(label) for label in labels], np.uint64) ^ np.uint64(seed))
    salt_B = np.asarray([_number(image_id) for image_id in image_ids], np.uint64)
    return 1.0 - _hash(salt_B[:, None] ^ salt_C).astype(np.float64) / 2.0**64


def expected_errors(queue: pa.Table) -> dict[str, float]:
    """Expected number of wrong annotations among the first N questions: {"10": …, "20": …, "50": …, …, all of them}."""
    given, score = queue["given"].to_numpy(), queue["score"].to_numpy().astype(np.float64)
    wrong = np.cumsum(np.select([given == 1, given == 0], [1 - score, score], 0.0))
    steps = [n for power in range(1, 10) for n in (10**power, 2 * 10**power, 5 * 10**power) if n < len(wrong)]
    return {str(n): float(wrong[n - 1]) for n in [*steps, len(wrong)] if n}


def _table(asked: dict[_Cell, tuple], audited: Collection[_Cell], labels: Sequence[str]) -> pa.Table:
    total_C = np.zeros(len(labels))
    for (_, c), (worth, _, _) in asked.items():
        total_C[c] += worth
    order = sorted(asked, key=lambda cell: (-total_C[cell[1]], cell[1], -asked[cell][0], cell[0]))
    reasons = {1: "mistaken?", 0: "missing?", -1: "unknown"}
    rows = [
        {
            "image_id": image_id,
            "label": labels[c],
            "given": asked[image_id, c][1],
            "score": asked[image_id, c][2],
            "priority": asked[image_id, c][0],
            "reason": AUDIT if (image_id, c) in audited else reasons[asked[image_id, c][1]],
        }
        for image_id, c in order
    ]
    return pa.Table.from_pylist(rows, schema=tables.QUEUE)


@dataclass
class _Best:
    """The `num` cells with the highest keys of all blocks; ties go to the earlier cell. Keys of 0 are left out."""

    num: int
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0))
    cells: list[tuple[_Cell, tuple]] = field(default_factory=list)  # and (worth, given, present) of each

    @property
    def rows(self) -> dict[_Cell, tuple]:
        return dict(self.cells)

    def offer(self, block: Block, keys_BC: np.ndarray) -> None:
        """Keep the best of what was kept and the block's cells."""
        keys = keys_BC.ravel()
        floor = self.keys[-1] if len(self.keys) == self.num and self.num else 0.0
        better = np.flatnonzero(keys > floor) if self.num else np.zeros(0, np.int64)
        if len(better) > self.num:
            cut = np.partition(keys[better], -self.num)[-self.num]
            above, level = better[keys[better] > cut], better[keys[better] == cut]
            better = np.sort(np.concatenate([above, level[: self.num - len(above)]]))
        b, c = np.unravel_index(better, keys_BC.shape)
        worth, given, present = (m[b, c].tolist() for m in (block.worth_BC, block.given_BC, block.present_BC))
        names = [(block.image_ids[i], j) for i, j in zip(b.tolist(), c.tolist(), strict=True)]
        self.cells += zip(names, zip(worth, given, present, strict=True), strict=True)
        joined = np.concatenate([self.keys, keys[better]])
        order = np.argsort(-joined, kind="stable")[: self.num]
        self.keys, self.cells = joined[order], [self.cells[i] for i in order]


def _number(name: str) -> int:
    """64 bits of a name that are the same on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), "little")


def _hash(bits: np.ndarray) -> np.ndarray:
    """Well mixed 64 bits (the finaliser of SplitMix64: Steele et al., OOPSLA 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
