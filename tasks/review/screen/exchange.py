"""The last run's questions onto the screen, and what was decided there into the verdicts' file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tasks.core import tables
from tasks.core.workspace import Workspace
from tasks.review.duplicate_verdicts import append_duplicate_verdicts, read_duplicate_verdicts, verdict_of_pairs
from tasks.review.last_run import LastRun
from tasks.review.screen import dataset as screen
from tasks.review.screen.app import open_app
from tasks.review.screen.cards import cards_of, queue_id
from tasks.review.screen.connection import dataset_exists
from tasks.review.screen.tags import (
    carried_over,
    duplicate_verdicts_of,
    judgements_of,
    new_judgements,
    pulled_from,
    renamed,
)
from tasks.review.verdicts import Verdict, append_verdicts, read_verdicts

FOLDER = Path(".cache/fiftyone")


def push(workspace: Workspace, name: str, who: str) -> list[str]:
    """Show the questions of the last run; what was decided before is brought in first. Returns lines for the person.

    name: of the dataset on the screen.  who: reviewer.
    """
    last_run, lines, before = LastRun(workspace), [], []
    if dataset_exists(name, FOLDER):
        lines = pull(workspace, name, who)
        shown = screen.read_back(name=name, folder=FOLDER)
        before = [renamed(card, last_run.todays_name) for card in shown.cards]
    queue = last_run.questions()
    cards = cards_of(
        queue,
        workspace.read("mapped.images"),
        workspace.read("cleaned.labels"),
        workspace.read("deduplicated.groups"),
        workspace.predictions("out_of_fold"),
    )
    views = screen.show(
        cards,
        name=name,
        folder=FOLDER,
        names=last_run.display_names(),
        before=carried_over(cards, before),
        info={"queue": queue_id(queue), "model": tables.sha256_of(workspace.paths.out_of_fold)[:12]},
    )
    num_questions = sum(card.question is not None for card in cards)
    return [*lines, f"{num_questions} questions in {len(views)} views of '{name}'. Next: python -m tasks review open"]


def open_screen(name: str, *, port: int, browser: bool, say: Callable[[str], None]) -> None:
    """Serve the App until Ctrl-C. say: gets the address."""

    def announce(url: str) -> None:
        say(f"{url}  (Ctrl-C closes it; then: python -m tasks review pull)")

    open_app(name=name, port=port, folder=FOLDER, browser=browser, announce=announce)


def pull(workspace: Workspace, name: str, who: str) -> list[str]:
    """Append what was decided on the screen to the verdicts' file. Returns lines for the person."""
    last_run, path = LastRun(workspace), workspace.paths.verdicts
    shown = screen.read_back(name=name, folder=FOLDER)
    judgements, complaints = judgements_of(shown.cards, shown.names, who)
    # A label may have been renamed since the cards were pushed, or since the verdicts were written.
    recorded = [{**vars(v), "label": last_run.todays_name(v.label)} for v in read_verdicts(path)]
    new = new_judgements([replace(j, label=last_run.todays_name(j.label)) for j in judgements], recorded)
    info = {key: shown.info.get(key, "") for key in ("model", "queue")}
    append_verdicts(
        path, [Verdict(j.image_id, j.label, j.verdict, j.who, j.when, j.sha256, j.reason, **info) for j in new]
    )
    on_duplicates, about_groups = duplicate_verdicts_of(shown.cards, who)
    of_pairs = verdict_of_pairs(read_duplicate_verdicts(workspace.paths.duplicate_verdicts))
    # Whose a tag is nobody knows: what the file says already is taken for pulled.
    on_duplicates = [v for v in on_duplicates if any(of_pairs.get(pair) != v.verdict for pair in v.pairs)]
    num_duplicates = append_duplicate_verdicts(workspace.paths.duplicate_verdicts, on_duplicates)
    complaints += about_groups
    screen.mark_pulled(pulled_from(shown.cards, judgements), name=name, folder=FOLDER)
    if shown.stray_tags:
        complaints.append(
            f"{shown.stray_tags} tags on `labels` or `scores` are left alone; tag the card LABEL:present."
        )
    about_duplicates = f", {num_duplicates} in {workspace.paths.duplicate_verdicts}" if num_duplicates else ""
    return [*complaints, f"{len(new)} new verdicts in {path}{about_duplicates}"]
