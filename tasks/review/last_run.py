"""What the last run left for reviewing, under today's taxonomy: questions, verdicts, names.

A label may have been renamed since the run, since a screen was filled, or since a verdict was written.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from tasks.core import tables
from tasks.core.workspace import Workspace
from tasks.review.agreement import ResolvedVerdicts, resolve
from tasks.review.duplicate_verdicts import read_duplicate_verdicts, verdict_of_pairs
from tasks.review.screen.cards import duplicate_groups, queue_id
from tasks.review.verdicts import read_verdicts
from tasks.taxonomy.migrations import todays_labels
from tasks.taxonomy.reading import read_taxonomy
from tasks.taxonomy.taxonomy import Taxonomy

GIVEN = {
    tables.PRESENT: "annotated as present",
    tables.ABSENT: "annotated as absent",
    tables.UNKNOWN_STATE: "not annotated",
}


class LastRun:
    """Reads on demand; the taxonomy once."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.paths = workspace, workspace.paths

    @cached_property
    def taxonomy(self) -> Taxonomy:
        return read_taxonomy(self.paths.taxonomy)

    @cached_property
    def retired(self) -> set[str]:
        """Labels that a migration has replaced."""
        return {label for step in self.taxonomy.migrations for label in step.retired}

    def todays_name(self, label: str) -> str:
        """What a label of any age is called today; one that has been split keeps its name."""
        labels = todays_labels(label, self.taxonomy.migrations)
        return labels[0] if len(labels) == 1 else label

    def display_names(self) -> dict[str, str]:
        """Name shown of each label, of the last run and of today's taxonomy; of retired ones the id."""
        vocabulary = self.workspace.vocabulary()
        of_run = dict(zip(vocabulary.labels, vocabulary.display_names, strict=True))
        today = {label.id: label.display_name for label in self.taxonomy.labels}
        return of_run | today | {label: label for label in self.retired}

    def resolved_verdicts(self) -> ResolvedVerdicts:
        """What the verdicts' file says about today's images in today's labels."""
        images = self.workspace.read("mapped.images", ["image_id", "sha256", "status"])
        return resolve(read_verdicts(self.paths.verdicts, self.taxonomy), images, self.taxonomy)

    def questions(self) -> pa.Table:
        """QUEUE: what cleaning asks, then what was added and is not asked already.

        Under today's names of the labels. About one that has been split, the next run asks anew.
        """
        questions: dict[tuple[str, str], dict] = {}
        for row in [*self.workspace.read("cleaned.queue").to_pylist(), *self.added_questions().to_pylist()]:
            label = self.todays_name(row["label"])
            if label not in self.retired:
                questions.setdefault((row["image_id"], label), {**row, "label": label})
        return pa.Table.from_pylist(list(questions.values()), schema=tables.QUEUE)

    def open_questions(self) -> list[dict]:
        """What nobody has decided yet, in the queue's order, as a person is asked.

        Rows of QUEUE with `given` in words and `score` rounded; and the label's name shown, the picture's uri, width
        and height, and the queue's id.
        """
        queue, resolved, names = self.questions(), self.resolved_verdicts().resolved, self.display_names()
        columns = ["image_id", "uri", "width", "height"]
        images = {row["image_id"]: row for row in self.workspace.read("mapped.images", columns).to_pylist()}
        asked = {"queue": queue_id(queue)}
        return [
            {
                **row,
                **images[row["image_id"]],
                **asked,
                "name": names.get(row["label"], row["label"]),
                "given": GIVEN[row["given"]],
                "score": round(row["score"], 3),
            }
            for row in queue.to_pylist()
            if (row["image_id"], row["label"]) not in resolved and row["image_id"] in images
        ]

    def open_duplicates(self) -> list[dict]:
        """Pictures that look like others of their group and were not judged beside all of them: one question each.

        image_id, sha256, uri; and others: the same of the rest of the group, without equal bytes. The first picture of
        a group is asked about by the others.
        """
        columns = ["image_id", "sha256", "uri"]
        images = {row["image_id"]: row for row in self.workspace.read("mapped.images", columns).to_pylist()}
        groups: dict[str, dict[str, dict]] = defaultdict(dict)  # group -> sha256 -> its first picture
        for image_id, group in duplicate_groups(self.workspace.read("deduplicated.groups")).items():
            if (image := images.get(image_id)) and image["sha256"]:
                groups[group].setdefault(image["sha256"], image)
        of_pairs = verdict_of_pairs(read_duplicate_verdicts(self.paths.duplicate_verdicts))
        questions = []
        for pictures in groups.values():
            for image in [*pictures.values()][1:]:
                others = [other for other in pictures.values() if other is not image]
                pairs = [tuple(sorted((image["sha256"], other["sha256"]))) for other in others]
                if any(pair not in of_pairs for pair in pairs):
                    questions.append({**image, "others": others})
        return questions

    # ------------------------------------------------------------ questions beside those of cleaning

    @property
    def _added_path(self) -> Path:
        return self.paths.cleaned.parent / "mined.parquet"

    def added_questions(self) -> pa.Table:
        """QUEUE of what was mined, or left open by a migration, since the last run."""
        path = self._added_path
        return tables.read_table(path, tables.QUEUE) if path.exists() else tables.empty(tables.QUEUE)

    def write_added_questions(self, questions: pa.Table) -> None:
        """Replace them."""
        tables.write_table(self._added_path, questions, tables.QUEUE)

    def ask_again(self, pairs: pa.Table) -> None:
        """Ask about pairs that a split of a label has left open, from the next `push` on. pairs: LOOK_AGAIN."""
        added = self.added_questions().to_pylist()
        known = {(row["image_id"], row["label"]) for row in added}
        unknown = {"given": tables.UNKNOWN_STATE, "score": 0.5, "priority": 0.0}
        new = [
            {"image_id": row["image_id"], "label": row["label"], **unknown, "reason": f"was {row['was']}"}
            for row in pairs.to_pylist()
            if (row["image_id"], row["label"]) not in known
        ]
        if new:
            self.write_added_questions(pa.Table.from_pylist(added + new, schema=tables.QUEUE))
