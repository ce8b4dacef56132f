"""What the screen shows: one card a question, and one card for each image that is shown for another reason.

A card holds at most one question, so that a bare tag `present` can only mean one thing. An image about which two
questions wait has two cards.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.prediction_table import Predictions
from tasks.core.tables import PRESENT, UNKNOWN_STATE

MOST_SCORES = 20
"""Scores on one card, highest first: more would hide the question."""


@dataclass(frozen=True)
class Question:
    """Is the label on the image?"""

    label: str
    given: int  # as annotated: 1, 0, or -1 unknown
    score: float  # probability that the label is present, [0, 1]
    reason: str  # missing? | mistaken? | unknown | audit | mined

    @property
    def disagreement(self) -> float:
        """|given - score| in [0, 1]; 0 where nothing was given."""
        return 0.0 if self.given == UNKNOWN_STATE else abs(self.given - self.score)


@dataclass(frozen=True)
class Card:
    """One sample on the screen."""

    image_id: str
    sha256: str  # hex; "" where the file could not be read
    uri: str
    source: str
    question: Question | None = None
    present: tuple[str, ...] = ()  # labels that the cleaned data says are on the image
    scores: tuple[tuple[str, float], ...] = ()  # (label, score), highest first
    duplicate_group: str = ""  # "" for an image without a duplicate
    quarantined: str = ""  # why the image is not used; "" when it is
    embedding: np.ndarray | None = field(default=None, compare=False)  # (D,), of the model


def queue_id(queue: pa.Table) -> str:
    """A name for these questions in this state: 12 hex digits that change when a question does."""
    rows = [queue[column].to_pylist() for column in ("image_id", "label", "given", "reason")]
    content = json.dumps(sorted(zip(*rows, strict=True)), ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:12]


def one_label_at_a_time(queue: pa.Table) -> list[dict]:
    """QUEUE rows grouped by label, the label with the most priority in all first, best first within it."""
    rows = queue.to_pylist()
    gain: dict[str, float] = defaultdict(float)
    for row in rows:
        gain[row["label"]] += row["priority"]
    return sorted(rows, key=lambda row: (-gain[row["label"]], row["label"], -row["priority"], row["image_id"]))


def cards_of(
    queue: pa.Table,
    images: pa.Table,
    labels: pa.Table,
    groups: pa.Table,
    predictions: Predictions,
) -> list[Card]:
    """Cards in the order in which they are asked, then duplicates side by side, then quarantined images.

    queue: QUEUE.  images: IMAGES.  labels: LABELS, cleaned.  groups: GROUPS.
    A question about an image that the images table no longer lists has no card.
    """
    rows = one_label_at_a_time(queue)
    group_of = duplicate_groups(groups)
    quarantined = images.filter(pc.equal(images["status"], "quarantined"))["image_id"].to_pylist()
    in_question = {row["image_id"] for row in rows}
    others = [
        i for i in [*sorted(group_of, key=lambda i: (group_of[i], i)), *sorted(quarantined)] if i not in in_question
    ]
    wanted = [*in_question, *others]
    image_of = {row["image_id"]: row for row in _rows_of(images, wanted)}
    present = _present(labels, wanted)
    scores, embeddings = _scores(predictions, wanted), _embeddings(predictions, wanted)

    def card(image_id: str, question: Question | None) -> Card:
        image = image_of[image_id]
        return Card(
            image_id=image_id,
            sha256=image["sha256"] or "",
            uri=image["uri"],
            source=image["source"],
            question=question,
            present=present.get(image_id, ()),
            scores=scores.get(image_id, ()),
            duplicate_group=group_of.get(image_id, ""),
            quarantined=(image["reason"] or "no reason given") if image["status"] == "quarantined" else "",
            embedding=embeddings.get(image_id),
        )

    questions = [(r["image_id"], Question(r["label"], r["given"], r["score"], r["reason"])) for r in rows]
    return [card(i, q) for i, q in [*questions, *((i, None) for i in others)] if i in image_of]


def duplicate_groups(groups: pa.Table) -> dict[str, str]:
    """Image id -> group of every image that has a duplicate."""
    sizes = groups.group_by("group_id").aggregate([([], "count_all")])
    shared = sizes.filter(pc.greater(sizes["count_all"], 1))["group_id"]
    members = groups.filter(pc.is_in(groups["group_id"], shared.combine_chunks()))
    return dict(zip(members["image_id"].to_pylist(), members["group_id"].to_pylist(), strict=True))


def _rows_of(table: pa.Table, image_ids: Sequence[str]) -> list[dict]:
    return table.filter(pc.is_in(table["image_id"], pa.array(image_ids, pa.string()))).to_pylist()


def _present(labels: pa.Table, image_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    labels_of: dict[str, list[str]] = defaultdict(list)
    for row in _rows_of(labels.filter(pc.equal(labels["state"], PRESENT)), image_ids):
        labels_of[row["image_id"]].append(row["label"])
    return {image_id: tuple(sorted(names)) for image_id, names in labels_of.items()}


def _scores(predictions: Predictions, image_ids: Sequence[str]) -> dict[str, tuple[tuple[str, float], ...]]:
    wanted, best_of = set(image_ids), {}
    for row, image_id in enumerate(predictions.image_ids):
        if image_id in wanted:
            scores_C = predictions.scores_NC[row]
            best = np.argsort(-scores_C, kind="stable")[:MOST_SCORES]
            best_of[image_id] = tuple((predictions.labels[c], float(scores_C[c])) for c in best)
    return best_of


def _embeddings(predictions: Predictions, image_ids: Sequence[str]) -> dict[str, np.ndarray]:
    if predictions.embeddings_ND is None:
        return {}
    wanted = set(image_ids)
    rows = {image_id: row for row, image_id in enumerate(predictions.image_ids) if image_id in wanted}
    return {image_id: predictions.embeddings_ND[row].astype(np.float32) for image_id, row in rows.items()}
