"""One page a label that says how to judge it: what it means, what follows from it, and examples as pictures.

Axes: N images.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, FileSystemLoader

from tasks.core.tables import ABSENT, PRESENT, write_text
from tasks.core.workspace import Workspace
from tasks.review.agreement import STATE_OF
from tasks.review.last_run import LastRun
from tasks.review.screen.connection import first_sentence
from tasks.taxonomy.taxonomy import Taxonomy

logger = logging.getLogger(__name__)

CLEARLY_ABSENT = 0.25
"""Highest score of an absent label that is no hard case."""
PICTURES_EACH = 12
"""Of sure positives, of sure negatives and of hard cases on one page."""


@dataclass(frozen=True)
class Example:
    """A picture on the page, and why it is there."""

    image_id: str
    why: str


@dataclass(frozen=True)
class Examples:
    """Pictures of one label. sure_present, sure_absent: nobody objects.  hard: people or the model do."""

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
    source_classes: Mapping[str, Sequence[str]]  # vocabulary -> classes that map to the label
    examples: Examples


def write_guidelines(workspace: Workspace, *, picture_of: Callable[[str], str]) -> Path:
    """Write the pages beside the report, from what the last run wrote. Returns the one that lists them.

    picture_of: URI -> data URI of the image.
    """
    last_run, predictions = LastRun(workspace), workspace.predictions("out_of_fold", with_embeddings=False)
    states = workspace.states("cleaned", predictions.image_ids, predictions.labels)
    verdicts_on: dict[str, list[dict]] = defaultdict(list)
    for verdict in last_run.resolved_verdicts().active:
        verdicts_on[verdict.label].append(vars(verdict))
    examples_of = {
        label: choose_examples(
            states.image_ids,
            states.targets_NC[:, c],
            states.known_NC[:, c],
            predictions.scores_NC[:, c],
            verdicts_on[label],
            most=PICTURES_EACH,
        )
        for c, label in enumerate(predictions.labels)
    }
    taxonomy = last_run.taxonomy
    # A label that was added since the last run has a page without pictures.
    guidelines = [_guideline(label, taxonomy, examples_of.get(label, Examples())) for label in taxonomy.ids]
    shown = {e.image_id for g in guidelines for examples in vars(g.examples).values() for e in examples}
    folder = workspace.paths.report.parent / "guidelines"
    for file, html in render_guidelines(guidelines, _pictures(workspace, shown, picture_of)).items():
        write_text(folder / file, html)
    return folder / "index.html"


def _guideline(label: str, taxonomy: Taxonomy, examples: Examples) -> Guideline:
    excluded = {other for pair in taxonomy.exclusions if label in pair for other in pair} - {label}

    def names(labels: Collection[str]) -> list[str]:
        return [taxonomy[h].display_name for h in taxonomy.ids if h in labels]

    return Guideline(
        label=label,
        name=taxonomy[label].display_name,
        definition=taxonomy[label].definition,
        implies=names(taxonomy.ancestors[label]),
        implied_by=names(taxonomy.descendants[label]),
        excludes=names(excluded),
        source_classes=taxonomy[label].source_classes,
        examples=examples,
    )


def _pictures(workspace: Workspace, image_ids: set[str], picture_of: Callable[[str], str]) -> dict[str, str]:
    """Image id -> data URI, of those that can still be read."""
    images = workspace.read("mapped.images", ["image_id", "uri"])
    rows = images.filter(pc.is_in(images["image_id"], pa.array(sorted(image_ids), pa.string()))).to_pylist()
    pictures: dict[str, str] = {}
    problems: list[Exception] = []
    for row in rows:
        try:
            pictures[row["image_id"]] = picture_of(row["uri"])
        except Exception as error:  # each remote file system has errors of its own
            problems.append(error)
    if problems:
        example = first_sentence(problems[0])
        logger.warning("%d of %d pictures are left out, e.g. %s", len(problems), len(rows), example)
    return pictures


def choose_examples(
    image_ids: Sequence[str],
    targets_N: np.ndarray,
    known_N: np.ndarray,
    scores_N: np.ndarray,
    verdicts: Iterable[Mapping],
    *,
    most: int,
) -> Examples:
    """At most `most` pictures in each group; verdicts come first.

    targets_N: uint8 {0, 1} and known_N: bool, the cleaned state of one label.  scores_N: its probability, NaN unknown.
    verdicts: rows about this label, with image_id, verdict and who.
    Sure: what all reviewers agree on, then known pairs: present ones by how sure the model is of them too, where it is
    of none the likeliest; absent ones that it takes for absent, first those with the highest score up to
    `CLEARLY_ABSENT`, since a picture of something else altogether teaches nobody. Hard: reviewers who differ or are
    unsure, then reviewers against the model, then known pairs whose score is nearest to 0.5.
    """
    answers: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in verdicts:
        answers[row["image_id"]].add((row["who"], row["verdict"]))
    examples = _examples_by_people(answers, dict(zip(image_ids, scores_N.tolist(), strict=True)))

    def fill(chosen: list[Example], wanted_N: np.ndarray, key_N: np.ndarray) -> None:
        rows = np.flatnonzero(wanted_N & np.isfinite(scores_N))
        for row in rows[np.argsort(key_N[rows], kind="stable")][: max(0, most - len(chosen))]:
            chosen.append(Example(image_ids[row], f"score {scores_N[row]:.2f}"))

    unseen_N = np.asarray([image_id not in answers for image_id in image_ids], bool) & known_N
    is_hard_N = np.abs(scores_N - 0.5) < 0.5 - CLEARLY_ABSENT
    present_N = unseen_N & (targets_N == PRESENT)
    agreed_N = present_N & (scores_N >= 0.5)
    fill(examples.sure_present, agreed_N if agreed_N.any() else present_N, -scores_N)
    instructive_N = np.where(scores_N <= CLEARLY_ABSENT, CLEARLY_ABSENT - scores_N, scores_N)
    fill(examples.sure_absent, unseen_N & (targets_N == ABSENT) & (scores_N < 0.5), instructive_N)
    fill(examples.hard, unseen_N & is_hard_N, np.abs(scores_N - 0.5))
    return Examples(*(chosen[:most] for chosen in (examples.sure_present, examples.sure_absent, examples.hard)))


def _examples_by_people(answers: Mapping[str, set[tuple[str, str]]], score_of: Mapping[str, float]) -> Examples:
    """What the reviewers alone make sure or hard. answers: image id -> (who, verdict)."""
    examples = Examples()
    surprising: list[tuple[float, Example]] = []
    for image_id in (i for i in score_of if i in answers):
        why = ", ".join(f"{who}: {verdict}" for who, verdict in sorted(answers[image_id]))
        verdicts = {verdict for _, verdict in answers[image_id]}
        if len(verdicts) > 1 or "unsure" in verdicts:
            examples.hard.append(Example(image_id, why))
            continue
        state, score = STATE_OF[verdicts.pop()], score_of[image_id]
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
    template = environment.get_template("guidelines.html.j2")
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
            "examples": [{"example": e, "src": pictures[e.image_id]} for e in chosen if e.image_id in pictures],
        }
        for title, tone, chosen, lead in shown
    ]
