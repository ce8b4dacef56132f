"""Cards -> a FiftyOne dataset with its saved views and embeddings plot, and what a person did to it -> tagged cards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from types import ModuleType
from typing import Any

import fsspec
import numpy as np

from tasks.core.errors import ReviewError
from tasks.core.tables import ABSENT, PRESENT, UNKNOWN_STATE
from tasks.review.mining import plane
from tasks.review.screen.cards import Card, Question
from tasks.review.screen.connection import connect, first_sentence, load_dataset
from tasks.review.screen.tags import DUPLICATE_VERDICTS, VERDICTS, TaggedCard

PLOT, SIMILAR = "embeddings", "similar"
"""Keys of the plot and of the index that 'sort by similarity' asks."""
IDENTITY = ("image_id", "sha256", "asked", "pulled")
"""Text that `read_back` needs and a person does not."""
GIVEN = {PRESENT: "given present", ABSENT: "given absent", UNKNOWN_STATE: "given nothing"}
GREEN, RED, AMBER, GREY, BLUE = "#0f8a5f", "#c9372c", "#a15c00", "#5b6570", "#2563eb"
COLOURS = {
    "given": dict(zip(GIVEN.values(), (GREEN, RED, GREY), strict=True)),
    "answer": dict(zip((*VERDICTS, *DUPLICATE_VERDICTS), (GREEN, RED, AMBER, GREY, BLUE), strict=True)),
}


# ---------------------------------------------------------------- cards -> screen


def show(
    cards: Sequence[Card],
    *,
    name: str,
    folder: Path,
    names: Mapping[str, str],
    before: Sequence[TaggedCard | None],
    info: Mapping[str, str],
) -> list[str]:
    """Fill the dataset `name` with the cards; what it held before goes. Returns the names of its saved views.

    names: label -> name shown.  before: what stood on each card, to be put on it again.
    info: what else `read_back` has to know of the screen; `queue` is one of its keys.
    The dataset itself stays, so an App that shows it shows the new cards after a reload.
    """
    fo = connect(folder)
    samples = [_sample(fo, card, place, folder, names) for place, card in enumerate(cards)]
    for sample, card in zip(samples, before, strict=True):
        if card:
            sample.tags = sorted(card.tags)
            sample["answer"] = next((tag for tag in sample.tags if tag in (*VERDICTS, *DUPLICATE_VERDICTS)), None)
            sample["pulled"] = json.dumps(card.pulled, ensure_ascii=False)
    dataset = load_dataset(name, folder) if fo.dataset_exists(name) else fo.Dataset(name, persistent=True)
    for key in dataset.list_brain_runs():
        dataset.delete_brain_run(key)
    dataset.delete_saved_views()
    dataset.clear()
    dataset.info = {**info, "names": json.dumps(names, ensure_ascii=False)}  # as text: a key may hold no dot
    dataset.save()
    _declare_fields(fo, dataset, cards, names)
    dataset.add_samples(samples, progress=False)
    _plot(fo, samples, cards, dataset)
    return _save_views(fo, dataset, cards, names)


def _declare_fields(fo: ModuleType, dataset: Any, cards: Sequence[Card], names: Mapping[str, str]) -> None:
    """Also the fields that no card fills, so that views can name them; and how the App shows them."""
    for field in (*IDENTITY, "answer", "why", "given", "reason", "source", "duplicate_group", "quarantined"):
        dataset.add_sample_field(field, fo.StringField)
    dataset.add_sample_field("position", fo.IntField)
    dataset.add_sample_field("disagreement", fo.FloatField)
    dataset.add_sample_field("question", fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification)
    for field in ("labels", "scores"):
        dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Classifications)
    groups = {
        "tags": ["tags", "_label_tags"],
        "question": ["question", "answer", "why", "given", "reason", "disagreement"],
        "image": ["labels", "scores", "duplicate_group", "quarantined", "source"],
        "identity": [*IDENTITY, "position", "id", "filepath", "created_at", "last_modified_at"],
        "metadata": ["metadata.width", "metadata.height"],
    }
    dataset.app_config.sidebar_groups = [
        fo.SidebarGroupDocument(name=group, paths=paths, expanded=group not in ("identity", "metadata"))
        for group, paths in groups.items()
    ]
    # Label tags go to every field that is ticked, so `question` is the only label field that is ticked.
    dataset.app_config.active_fields = fo.ActiveFields(
        paths=["question", "answer", "why", "given", "duplicate_group", "quarantined"]
    )
    questions = {_asking(card.question.label, names): BLUE for card in cards if card.question}
    colours = {**COLOURS, "question": questions, "why": {_why(card.question): GREY for card in cards if card.question}}
    dataset.app_config.color_scheme = fo.ColorScheme(
        color_by="value",
        fields=[
            {
                "path": path,
                **({"colorByAttribute": "label"} if path == "question" else {}),
                "valueColors": [{"value": value, "color": colour} for value, colour in of_values.items()],
            }
            for path, of_values in colours.items()
        ],
    )
    dataset.save()


def _sample(fo: ModuleType, card: Card, position: int, folder: Path, names: Mapping[str, str]) -> Any:
    shown = {label: names.get(label, label) for label in [*card.present, *dict(card.scores)]}
    sample = fo.Sample(
        filepath=str(local_file(card, folder / "media")),
        media_type="image",  # guessed from the name, it may differ between cards, which FiftyOne refuses
        image_id=card.image_id,
        sha256=card.sha256,
        source=card.source,
        position=position,
        duplicate_group=card.duplicate_group or None,
        quarantined=card.quarantined or None,
        labels=fo.Classifications(classifications=[fo.Classification(label=shown[h]) for h in card.present]),
        scores=fo.Classifications(
            classifications=[fo.Classification(label=shown[h], confidence=score) for h, score in card.scores]
        ),
    )
    if card.question:
        question = card.question
        sample["asked"] = question.label
        sample["question"] = fo.Classification(label=_asking(question.label, names), confidence=question.score)
        sample["given"], sample["reason"] = GIVEN[question.given], question.reason
        sample["disagreement"] = question.disagreement
        sample["why"] = _why(question)
    return sample


def _why(question: Question) -> str:
    """Few letters, for a small card: `given` stands beside it."""
    return f"{question.reason} {question.score:.2f}"


def _asking(label: str, names: Mapping[str, str]) -> str:
    return f"{names.get(label, label)}?"


def local_file(card: Card, media: Path) -> Path:
    """The image as a file of this machine: FiftyOne shows nothing else. A remote image is fetched once.

    One that is not used is not fetched, for often it cannot be: its card then shows why, and no picture.
    Raises ReviewError when an image that is used cannot be fetched.
    """
    uri = card.uri.removeprefix("file://")
    if "://" not in uri:
        return Path(uri).resolve()
    name = card.sha256 or hashlib.sha256(uri.encode("utf-8")).hexdigest()
    target = media / (name[:16] + Path(uri).suffix)
    if not card.quarantined and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with fsspec.open(uri) as remote:
                target.write_bytes(remote.read())
        except Exception as error:  # every protocol raises errors of its own
            raise ReviewError(f"review: {uri} cannot be fetched ({first_sentence(error)}).") from error
    return target


def _plot(fo: ModuleType, samples: Sequence[Any], cards: Sequence[Card], dataset: Any) -> None:
    """Where each card lies among the others, and which are like it; nothing without embeddings."""
    embeddings = {s.id: c.embedding for s, c in zip(samples, cards, strict=True) if c.embedding is not None}
    if len(embeddings) > 2:
        shown, points = dataset.select(list(embeddings)), plane(np.stack(list(embeddings.values())))
        points = dict(zip(embeddings, points, strict=True))
        fo.brain.compute_visualization(shown, points=points, brain_key=PLOT, progress=False)
        fo.brain.compute_similarity(shown, embeddings=embeddings, brain_key=SIMILAR, backend="sklearn", progress=False)


def _save_views(fo: ModuleType, dataset: Any, cards: Sequence[Card], names: Mapping[str, str]) -> list[str]:
    """Numbered, because FiftyOne makes an address of each name and drops every letter outside a-z from it."""
    field = fo.ViewField
    questions = dataset.exists("question").sort_by("position")
    answered = field("tags").contains(list(VERDICTS)) | field("question.tags").contains(list(VERDICTS))
    undecided = questions.match(~answered)
    differing = undecided.match(field("disagreement") >= 0.5).sort_by("disagreement", reverse=True)
    duplicates = dataset.exists("duplicate_group").match(~field("tags").contains(list(DUPLICATE_VERDICTS)))
    views: list[tuple[str, str, Any]] = [
        ("queue", "all questions, one label after the other, with their answers", questions),
        ("undecided", "questions without an answer, one label after the other", undecided),
        ("disagreement", "undecided; annotation and score differ by 0.5 or more", differing),
        ("duplicates", "duplicates side by side, without an answer", duplicates.sort_by("duplicate_group")),
        ("quarantine", "images that are not used, and why", dataset.exists("quarantined")),
    ]
    for label in dict.fromkeys(card.question.label for card in cards if card.question):
        views.append((_asking(label, names), f"undecided about {label}", undecided.match(field("asked") == label)))
    named = [f"{number:02d} {name}" for number, (name, _, _) in enumerate(views)]
    for name, (_, description, view) in zip(named, views, strict=True):
        dataset.save_view(name, view, description=description)
    return named


# ---------------------------------------------------------------- screen -> tags


@dataclass(frozen=True)
class ReadBack:
    """cards: as the person left them.  names, info: as pushed.  stray_tags: how many are on `labels` and `scores`."""

    cards: list[TaggedCard]
    names: dict[str, str]
    info: dict[str, str]
    stray_tags: int


def read_back(*, name: str, folder: Path) -> ReadBack:
    """Everything a person did to the dataset. Raises ReviewError when there is none."""
    dataset = load_dataset(name, folder)
    columns = ["image_id", "sha256", "asked", "reason", "duplicate_group", "last_modified_at", "pulled"]
    columns += ["tags", "question.tags"]
    cards = []
    for image_id, sha256, asked, reason, group, touched, pulled, *tags in zip(*dataset.values(columns), strict=True):
        cards.append(
            TaggedCard(
                image_id=image_id,
                sha256=sha256 or "",
                asked=asked or "",
                reason=reason or "",
                duplicate_group=group or "",
                tags=frozenset(tag for of_field in tags for tag in of_field or ()),
                touched=touched.replace(tzinfo=UTC).isoformat(timespec="seconds"),
                pulled={label: tuple(verdict) for label, verdict in json.loads(pulled or "{}").items()},
            )
        )
    stray = sum(sum(dataset.count_label_tags(field).values()) for field in ("labels", "scores"))
    info = dict(dataset.info)
    return ReadBack(cards, json.loads(info.pop("names", "{}")), info, stray)


def mark_pulled(pulled: Sequence[Mapping[str, tuple[str, str, str]]], *, name: str, folder: Path) -> None:
    """Note on each card, in the order of `read_back`, what was pulled from it and whose it is."""
    values = [json.dumps(verdicts, ensure_ascii=False) if verdicts else None for verdicts in pulled]
    load_dataset(name, folder).set_values("pulled", values)
