"""One page a label that says how to judge it: what it means, what follows from it, and examples as pictures.

Axes: N images.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader

from tasks.core.tables import ABSENT, PRESENT

STATES = {"present": PRESENT, "absent": ABSENT}


@dataclass(frozen=True)
class Example:
    """A picture on the page, and why it is there."""

    image_id: str
    why: str


@dataclass(frozen=True)
class Examples:
    """Pictures of one label. sure_present, sure_absent: nobody doubts.  hard: people or the model do."""

    sure_present: list[Example] = field(default_factory=list)
    sure_absent: list[Example] = field(default_factory=list)
    hard: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class Guideline:
    """What one page says; related labels by the name shown."""

    label: str
    name: str
    definition: str
    implies: Sequence[str]
    implied_by: Sequence[str]
    excludes: Sequence[str]
    native_names: Mapping[str, Sequence[str]]  # vocabulary -> names that suppliers use
    examples: Examples


def choose_examples(
    image_ids: Sequence[str],
    targets_N: np.ndarray,
    known_N: np.ndarray,
    scores_N: np.ndarray,
    verdicts: Iterable[Mapping],
    *,
    most: int,
) -> Examples:
    """At most `most` pictures of each kind; what people said comes first.

    targets_N: uint8 {0, 1} and known_N: bool, the cleaned state of one label.  scores_N: its probability, NaN unknown.
    verdicts: rows about this label, with image_id, verdict and who.
    Sure: what all reviewers said alike, then known cells by how sure the model is of them too. Hard: reviewers who
    differ or are unsure, then reviewers against the model, then known cells whose score is nearest to 0.5.
    """
    said: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in verdicts:
        said[row["image_id"]].add((row["who"], row["verdict"]))
    examples = _judged(said, dict(zip(image_ids, scores_N.tolist(), strict=True)))

    def fill(chosen: list[Example], wanted_N: np.ndarray, key_N: np.ndarray) -> None:
        rows = np.flatnonzero(wanted_N & np.isfinite(scores_N))
        for row in rows[np.argsort(key_N[rows], kind="stable")][: max(0, most - len(chosen))]:
            chosen.append(Example(image_ids[row], f"score {scores_N[row]:.2f}"))

    unseen_N = np.asarray([image_id not in said for image_id in image_ids], bool) & known_N
    fill(examples.sure_present, unseen_N & (targets_N == PRESENT) & (scores_N >= 0.5), -scores_N)
    fill(examples.sure_absent, unseen_N & (targets_N == ABSENT) & (scores_N < 0.5), scores_N)
    fill(examples.hard, unseen_N & (np.abs(scores_N - 0.5) < 0.25), np.abs(scores_N - 0.5))
    return Examples(*(found[:most] for found in (examples.sure_present, examples.sure_absent, examples.hard)))


def _judged(said: Mapping[str, set[tuple[str, str]]], score_of: Mapping[str, float]) -> Examples:
    """What the reviewers alone make sure or hard. said: image id -> (who, verdict)."""
    examples = Examples()
    surprising: list[tuple[float, Example]] = []
    for image_id in (i for i in score_of if i in said):
        why = ", ".join(f"{who}: {verdict}" for who, verdict in sorted(said[image_id]))
        answers = {verdict for _, verdict in said[image_id]}
        if len(answers) > 1 or "unsure" in answers:
            examples.hard.append(Example(image_id, why))
            continue
        state, score = STATES[answers.pop()], score_of[image_id]
        (examples.sure_present if state == PRESENT else examples.sure_absent).append(Example(image_id, why))
        if abs(state - score) >= 0.5:
            surprising.append((abs(state - score), Example(image_id, f"{why}; score {score:.2f}")))
    examples.hard.extend(example for _, example in sorted(surprising, key=lambda pair: -pair[0]))
    return examples


def page_name(number: int, label: str) -> str:
    """File name of a label's page: readable, and unique whatever the label is called."""
    readable = re.sub(r"\W+", "-", label).strip("-")[:60]
    return f"{number:03d}-{readable}.html"


def render_guidelines(guidelines: Sequence[Guideline], pictures: Mapping[str, str]) -> dict[str, str]:
    """File name -> self-contained HTML: one page a label and `index.html`. Every name is escaped.

    pictures: image id -> data URI; an example without one is left out.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    template = environment.get_template("guideline.html.j2")
    files = {guideline.label: page_name(number, guideline.label) for number, guideline in enumerate(guidelines, 1)}
    pages = {"index.html": template.render(guidelines=guidelines, files=files)}
    for guideline in guidelines:
        sections = _sections(guideline.examples, pictures)
        pages[files[guideline.label]] = template.render(guideline=guideline, sections=sections)
    return pages


def _sections(examples: Examples, pictures: Mapping[str, str]) -> list[dict]:
    shown = (
        ("Present", "good", examples.sure_present, "Say present for images like these."),
        ("Absent", "bad", examples.sure_absent, "Say absent for images like these."),
        ("Hard cases", "warn", examples.hard, "Reviewers or the model differ. Say unsure rather than guess."),
    )
    return [
        {
            "title": title,
            "tone": tone,
            "lead": lead,
            "examples": [{"example": e, "src": pictures[e.image_id]} for e in found if e.image_id in pictures],
        }
        for title, tone, found, lead in shown
    ]
