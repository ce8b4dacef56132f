"""The questions with the highest priority for a person, over any number of images, a batch at a time.

Axes: N images, B images of a batch, C labels. A question is an (image, label) pair: "is there a forest on this image?".
Its priority, the expected gain of an answer, is the probability that the answer changes the cleaned data, times how
rare the label is: one mended positive of a label with 20 of them moves its average precision more than one of 20,000,
times UNKNOWN_GAIN where nothing is annotated. A share of the questions is drawn at random instead, to measure how
wrong the annotations really are (audit.py).

    queue = QuestionQueue(states, resolved=…, needs_review=…, budget=200, audit_share=0.1, seed=0)
    queue.add(rows, p_present_BC, p_wrong_BC)       # for each batch
    queue.ranked()                                  # QUEUE
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from tasks.core import tables
from tasks.core.states import States
from tasks.core.tables import ABSENT, PRESENT, UNKNOWN_STATE

RARITY = 0.5  # as r(I) of the square-root sampler: a label ten times as rare counts about three times as much
WEIGHT_RANGE = (0.25, 4.0)
UNKNOWN_GAIN = 0.25
"""An answer about an unknown pair adds a label, where one about a wrong annotation takes a false one away besides; and
as many answers add an absence, of which there are enough."""
LEAST_YIELD = 0.05
AUDIT = "audit"
REASONS = {PRESENT: "mistaken?", ABSENT: "missing?", UNKNOWN_STATE: "unknown"}
"""Why a question is asked, by the annotated state."""

_Entry = tuple[str, int]  # image_id, column
_Facts = tuple[float, int, float]  # priority, given, p_present


class QuestionQueue:
    """The best questions about the images of `states`, as a policy leaves them.

    resolved: (image_id, label) about which nobody is asked.
    needs_review: (image_id, label) on which people are at odds, or that a split has left open: asked as if nothing had
        been annotated, on images and labels that `states` lacks as well (of a test image, say).
    budget, audit_share, seed: as for `RankedQuestions`.
    The stop rule: nothing is asked whose answer changes the data with a probability below LEAST_YIELD.
    """

    def __init__(
        self,
        states: States,
        *,
        resolved: Collection[tuple[str, str]] = (),
        needs_review: Collection[tuple[str, str]] = (),
        budget: int,
        audit_share: float,
        seed: int,
    ) -> None:
        self.states = states
        self.resolved, self.needs_review = columns_by_image(states, resolved), columns_by_image(states, needs_review)
        self.weight_C = label_weights(np.count_nonzero(states.states_NC == PRESENT, axis=0))
        ids, labels = set(states.image_ids), set(states.labels)
        self.elsewhere = sorted((h, i) for i, h in needs_review if i not in ids or h not in labels)[:budget]
        self.questions = RankedQuestions(
            states.labels, budget=budget - len(self.elsewhere), audit_share=audit_share, seed=seed
        )

    def add(
        self, rows: np.ndarray, p_present_BC: np.ndarray, p_wrong_BC: np.ndarray, gap_BC: np.ndarray | None = None
    ) -> None:
        """Consider the pairs of these images, each image once.

        rows: int64 (B,), positions in `states`.  p_present_BC: probability that the label is present.
        p_wrong_BC: probability that a person's verdict differs from the cleaned state.
        gap_BC: bool, pairs in a gap of annotation; an answer tells of the gap, so they count as the rarest label's do.
        """
        states = self.states.take(rows)
        resolved, needs_review = (positions_of(pairs, states.image_ids) for pairs in (self.resolved, self.needs_review))
        given_BC, p_wrong_BC, p_present_BC = states.states_NC, p_wrong_BC.copy(), p_present_BC.copy()
        open_BC = given_BC == UNKNOWN_STATE
        open_BC[needs_review] = False
        given_BC[needs_review], p_wrong_BC[needs_review], p_present_BC[needs_review] = UNKNOWN_STATE, 0.5, 0.5
        weight_BC = np.where(False if gap_BC is None else gap_BC, WEIGHT_RANGE[1], self.weight_C)
        weight_BC = weight_BC * np.where(open_BC, UNKNOWN_GAIN, 1.0)
        priority_BC = np.where(p_wrong_BC >= LEAST_YIELD, p_wrong_BC * weight_BC, 0.0)
        auditable_BC = given_BC != UNKNOWN_STATE
        priority_BC[resolved], auditable_BC[resolved] = 0.0, False
        candidates = Candidates(states.image_ids, given_BC, p_present_BC, priority_BC, auditable_BC)
        self.questions.add(candidates)

    def ranked(self) -> pa.Table:
        """QUEUE: what stands outside of `states` first, then one label after the other."""
        unknown = {"given": UNKNOWN_STATE, "score": 0.5, "priority": 0.5, "reason": REASONS[UNKNOWN_STATE]}
        rows = [{"image_id": i, "label": h, **unknown} for h, i in self.elsewhere]
        return pa.concat_tables([pa.Table.from_pylist(rows, schema=tables.QUEUE), self.questions.table()])


def label_weights(num_positives_C: np.ndarray) -> np.ndarray:
    """How much a verdict on each label counts: (median of positives / positives) ** RARITY, in WEIGHT_RANGE.

    num_positives_C: images on which each label is present.
    """
    positives_C = np.maximum(num_positives_C, 1).astype(np.float64)
    return np.clip((np.median(positives_C) / positives_C) ** RARITY, *WEIGHT_RANGE)


def columns_by_image(states: States, pairs: Collection[tuple[str, str]]) -> dict[str, list[int]]:
    """Columns of each image's labels among the (image_id, label) pairs; labels that `states` lacks are left out."""
    column_of = {label: c for c, label in enumerate(states.labels)}
    columns: dict[str, list[int]] = {}
    for image_id, label in pairs:
        if label in column_of:
            columns.setdefault(image_id, []).append(column_of[label])
    return columns


def positions_of(columns: dict[str, list[int]], image_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Positions (rows, columns) of the pairs in a batch of images; int64 (K,) each."""
    pairs = [(b, c) for b, image_id in enumerate(image_ids) for c in columns.get(image_id, ())]
    return tuple(np.asarray(pairs, np.int64).reshape(-1, 2).T)


# ---------------------------------------------------------------- ranking


@dataclass(frozen=True)
class Candidates:
    """Pairs that may be asked about, of a batch of images.

    image_ids: B.  given_BC: int8 in {1, 0, -1 unknown}, as annotated.  p_present_BC: float in [0, 1].
    priority_BC: float >= 0, expected gain of a verdict; 0 is never asked, except in the audit.
    auditable_BC: bool, pairs of the population whose error rate is measured; must be known.
    """

    image_ids: Sequence[str]
    given_BC: np.ndarray
    p_present_BC: np.ndarray
    priority_BC: np.ndarray
    auditable_BC: np.ndarray


class RankedQuestions:
    """At most `budget` questions, one label after the other, the label with the most to gain first.

    audit_share: of the budget; half of it among pairs annotated present, half among those annotated absent, each pair
        with the same chance. The draw depends on the seed and the pair alone, so an unanswered audit stays the same.
    """

    def __init__(self, labels: Sequence[str], *, budget: int, audit_share: float, seed: int) -> None:
        num_audit = round(budget * audit_share)
        self.labels, self.seed = labels, seed
        self.best = _TopEntries(budget - num_audit)
        self.audits = {PRESENT: _TopEntries(num_audit // 2), ABSENT: _TopEntries(num_audit - num_audit // 2)}

    def add(self, candidates: Candidates) -> None:
        """Keep the best of what was kept and these."""
        self.best.add(candidates, candidates.priority_BC)
        if any(audit.num for audit in self.audits.values()):
            key_BC = audit_keys(candidates.image_ids, self.labels, seed=self.seed)
            for state, audit in self.audits.items():
                audit.add(candidates, np.where(candidates.auditable_BC & (candidates.given_BC == state), key_BC, 0.0))

    def table(self) -> pa.Table:
        """QUEUE."""
        audited = {**self.audits[ABSENT].entries, **self.audits[PRESENT].entries}
        questions: dict[_Entry, _Facts] = {**self.best.entries, **audited}
        gain_C = np.zeros(len(self.labels))
        for (_, c), (priority, _, _) in questions.items():
            gain_C[c] += priority
        rows = []
        for (image_id, c), (priority, given, p_present) in sorted(
            questions.items(), key=lambda item: (-gain_C[item[0][1]], item[0][1], -item[1][0], item[0][0])
        ):
            reason = AUDIT if (image_id, c) in audited else REASONS[given]
            rows.append((image_id, self.labels[c], given, p_present, priority, reason))
        return pa.Table.from_pylist(
            [dict(zip(tables.QUEUE.names, row, strict=True)) for row in rows], schema=tables.QUEUE
        )


@dataclass
class _TopEntries:
    """The `num` entries with the highest keys of all batches; ties go to the earlier one. Keys of 0 are left out."""

    num: int
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0))
    kept: list[tuple[_Entry, _Facts]] = field(default_factory=list)

    @property
    def entries(self) -> dict[_Entry, _Facts]:
        return dict(self.kept)

    def add(self, candidates: Candidates, keys_BC: np.ndarray) -> None:
        if not self.num:
            return
        keys = keys_BC.ravel()
        lowest = self.keys[-1] if len(self.keys) == self.num else 0.0
        better = np.flatnonzero(keys > lowest)
        if len(better) > self.num:  # of more than enough, the `num` highest, in their order
            cutoff = np.partition(keys[better], -self.num)[-self.num]
            above, level = better[keys[better] > cutoff], better[keys[better] == cutoff]
            better = np.sort(np.concatenate([above, level[: self.num - len(above)]]))
        b, c = np.unravel_index(better, keys_BC.shape)
        matrices = candidates.priority_BC, candidates.given_BC, candidates.p_present_BC
        facts = zip(*(matrix[b, c].tolist() for matrix in matrices), strict=True)
        entries = [(candidates.image_ids[i], j) for i, j in zip(b.tolist(), c.tolist(), strict=True)]
        kept = [*self.kept, *zip(entries, facts, strict=True)]
        keys = np.concatenate([self.keys, keys[better]])
        order = np.argsort(-keys, kind="stable")[: self.num]
        self.keys, self.kept = keys[order], [kept[i] for i in order]


# ---------------------------------------------------------------- the audit's sample


def audit_keys(image_ids: Sequence[str], labels: Sequence[str], *, seed: int) -> np.ndarray:
    """Each pair's random key, float64 (B, C) in (0, 1], of the seed and the pair alone: the audit takes the highest."""
    salt_C = _mixed(np.asarray([_number(label) for label in labels], np.uint64) ^ np.uint64(seed))
    salt_B = np.asarray([_number(image_id) for image_id in image_ids], np.uint64)
    return 1.0 - _mixed(salt_B[:, None] ^ salt_C).astype(np.float64) / 2.0**64


def _number(name: str) -> int:
    """64 bits of a name that are the same on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), "little")


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Well mixed 64 bits (the finaliser of SplitMix64: Steele et al., OOPSLA 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def expected_errors(queue: pa.Table) -> dict[str, float]:
    """Expected number of wrong annotations among the first N questions: {"10": …, "20": …, "50": …, …, all of them}."""
    given, score = queue["given"].to_numpy(), queue["score"].to_numpy().astype(np.float64)
    wrong = np.cumsum(np.select([given == 1, given == 0], [1 - score, score], 0.0))
    steps = [n for power in range(1, 10) for n in (10**power, 2 * 10**power, 5 * 10**power) if n < len(wrong)]
    return {str(n): float(wrong[n - 1]) for n in [*steps, len(wrong)] if n}
