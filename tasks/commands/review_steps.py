"""`python -m tasks review …`: the last run's questions before a person, and their answers into the verdicts' file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasks.core import tables
from tasks.core.errors import TableError, TaxonomyError, VerdictError, did_you_mean
from tasks.core.prediction_table import Predictions, read_predictions
from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.review.agreement import STATE_OF, ResolvedVerdicts, kappas, resolve
from tasks.review.imports import FORMATS, Importer, detect, read_export
from tasks.review.mining import mined_questions, plane
from tasks.review.screen import dataset as screen
from tasks.review.screen.app import open_app
from tasks.review.screen.cards import cards_of, queue_id
from tasks.review.screen.connection import dataset_exists
from tasks.review.screen.tags import carried_over, judgements_of, new_judgements, progress_of, pulled_from, renamed
from tasks.review.verdicts import Verdict, append_verdicts, read_verdicts
from tasks.taxonomy.migrations import todays_labels
from tasks.taxonomy.reading import read_taxonomy

FOLDER = Path(".cache/fiftyone")


def push(params: Params, who: str) -> list[str]:
    """Show the questions of the last run; what was decided before is brought in first. Returns lines for the person."""
    name, lines, before = params.review.dataset, [], []
    if dataset_exists(name, FOLDER):
        lines = pull(params, who)
        today = _todays_name(params)
        before = [renamed(card, today) for card in screen.read_back(name=name, folder=FOLDER).cards]
    queue = questions(params)
    predictions = read_predictions(params.paths.out_of_fold)
    images = tables.read_table(params.paths.mapped / "images.parquet", tables.IMAGES)
    cards = cards_of(
        queue,
        images,
        tables.read_table(params.paths.cleaned / "labels.parquet", tables.LABELS),
        tables.read_table(params.paths.deduplicated / "groups.parquet", tables.GROUPS),
        predictions,
        _points(predictions, set(queue["image_id"].to_pylist())),
    )
    views = screen.show(
        cards,
        name=name,
        folder=FOLDER,
        names=_names(params),
        before=carried_over(cards, before),
        info={"queue": queue_id(queue), "model": tables.sha256_of(params.paths.out_of_fold)[:12]},
    )
    asked = sum(card.question is not None for card in cards)
    return [*lines, f"{asked} questions in {len(views)} views of '{name}'. Next: python -m tasks review open"]


def open_screen(params: Params, *, browser: bool, say: Callable[[str], None]) -> None:
    """Serve the App until Ctrl-C. say: told the address."""

    def announce(url: str) -> None:
        say(f"{url}  (Ctrl-C closes it; then: python -m tasks review pull)")

    open_app(name=params.review.dataset, port=params.review.port, folder=FOLDER, browser=browser, announce=announce)


def pull(params: Params, who: str) -> list[str]:
    """Append what was decided on the screen to the verdicts' file. Returns lines for the person."""
    name = params.review.dataset
    found = screen.read_back(name=name, folder=FOLDER)
    judgements, complaints = judgements_of(found.cards, found.names, who)
    # A label may have been renamed since the cards were pushed, or since the verdicts were written.
    today = _todays_name(params)
    said = [{**vars(v), "label": today(v.label)} for v in read_verdicts(params.paths.verdicts)]
    new = new_judgements([replace(j, label=today(j.label)) for j in judgements], said)
    shown = {key: found.info.get(key, "") for key in ("model", "queue")}
    added = [Verdict(j.image_id, j.label, j.verdict, j.who, j.when, j.sha256, j.reason, **shown) for j in new]
    append_verdicts(params.paths.verdicts, added)
    screen.mark_pulled(pulled_from(found.cards, judgements), name=name, folder=FOLDER)
    if found.stray_tags:
        complaints.append(
            f"{found.stray_tags} tags on `labels` or `scores` are left alone; tag the card LABEL:present."
        )
    return [*complaints, f"{len(new)} new verdicts in {params.paths.verdicts}"]


def status(params: Params) -> RenderableType:
    """For a terminal: how much of the queue is decided, by label; what it promises; and how far reviewers agree."""
    queue, judged, names = questions(params), resolved_verdicts(params), _names(params)
    cells = zip(queue["image_id"].to_pylist(), queue["label"].to_pylist(), strict=True)
    words, answered = {state: word for word, state in STATE_OF.items()}, judged.answered
    stated = {(row["image_id"], row["label"]): words[row["state"]] for row in judged.statements.to_pylist()}
    rows = progress_of(cells, {cell: word for cell, word in stated.items() if cell in answered})
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    columns = ("asked", "left", "present", "absent", "unsure")
    for column in ("label", *columns):
        table.add_column(column, justify="left" if column == "label" else "right")
    for row in rows:
        # Names are data: Text keeps rich from reading "[x]" as markup.
        table.add_row(Text(names.get(row.label, row.label)), *(str(getattr(row, column)) for column in columns))
    table.add_row("all", *(str(sum(getattr(row, column) for row in rows)) for column in columns), style="bold")
    return Group(table, *map(Text, [*_outlook(params), *_agreement(judged)]))


def _outlook(params: Params) -> list[str]:
    """What the last run expected of its questions and learnt from the answers so far."""
    if not params.paths.cleaning_report.exists():
        return []
    review = tables.read_json(params.paths.cleaning_report)["review"]
    lines, rate = [], review["error_rate"]
    if expected := sorted((int(asked), errors) for asked, errors in review["expected_errors"].items()):
        told = ", ".join(f"{errors:.0f} among the first {asked}" for asked, errors in expected)
        lines.append(f"errors to expect in this queue: {told}")
    if rate:
        lines.append(
            f"annotations that are wrong: {rate['share']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}), "
            f"by {rate['asked']} audited"
        )
    if review["stop"]:
        lines.append("the last answers changed next to nothing: it does not pay to go on")
    return lines


def _agreement(judged: ResolvedVerdicts) -> list[str]:
    lines = []
    for pair in kappas(judged.standing):
        kappa = "undefined" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
        of = f"{round(pair['agree'] * pair['cells'])} of {pair['cells']}"
        lines.append(f"{' and '.join(pair['who'])} agree on {of} questions, kappa {kappa}")
    if judged.conflicts:
        listed = ", ".join(f"{c['image_id']} {c['label']}" for c in judged.conflicts[:5])
        more = f" and {len(judged.conflicts) - 5} more" if len(judged.conflicts) > 5 else ""
        lines.append(f"at odds: {listed}{more}")
    return lines


# ---------------------------------------------------------------- mining


def mine_label(params: Params, label: str, *, most: int) -> int:
    """Ask about pool images that resemble the label's positives, from the next `push` on. Returns how many.

    Mining a label again replaces its earlier questions. Raises an error where nothing can be mined.
    """
    predictions = read_predictions(params.paths.out_of_fold)
    if label not in predictions.labels:
        raise TaxonomyError(f"review mine: no label '{label}'. {did_you_mean(label, predictions.labels)}")
    if predictions.embeddings_ND is None:
        raise TableError(
            f"{params.paths.out_of_fold}: holds no embeddings. Set out_of_fold.enabled and run the pipeline."
        )
    labels = tables.read_table(params.paths.cleaned / "labels.parquet", tables.LABELS)
    today = todays_labels(label, read_taxonomy(params.paths.taxonomy).migrations)
    judged = {verdict.image_id for verdict in resolved_verdicts(params).standing if verdict.label in today}
    found = mined_questions(predictions, label, labels, judged, most=most)
    if not found.num_rows:
        raise TableError(f"review mine: '{label}' has no positives, or the pool no image without this label's state.")
    earlier = _mined(params)
    others = earlier.filter(pc.not_equal(earlier["label"], label))
    tables.write_table(_mined_path(params), pa.concat_tables([others, found]), tables.QUEUE)
    return found.num_rows


def _mined_path(params: Params) -> Path:
    return params.paths.cleaned.parent / "mined.parquet"


def _mined(params: Params) -> pa.Table:
    path = _mined_path(params)
    return tables.read_table(path, tables.QUEUE) if path.exists() else tables.empty(tables.QUEUE)


def ask_again(params: Params, cells: pa.Table) -> None:
    """Ask about cells that a split of a label has left open, from the next `push` on.

    cells: image_id, label, was (the label that was split).
    """
    earlier = _mined(params).to_pylist()
    asked = {(row["image_id"], row["label"]) for row in earlier}
    new = [
        {
            "image_id": i,
            "label": label,
            "given": tables.UNKNOWN_STATE,
            "score": 0.5,
            "priority": 0.0,
            "reason": f"was {was}",
        }
        for i, label, was in zip(*(cells[name].to_pylist() for name in ("image_id", "label", "was")), strict=True)
        if (i, label) not in asked
    ]
    if new:
        tables.write_table(_mined_path(params), pa.Table.from_pylist(earlier + new, schema=tables.QUEUE), tables.QUEUE)


# ---------------------------------------------------------------- what several steps read


def questions(params: Params) -> pa.Table:
    """QUEUE: what cleaning asks, then what was mined and is not asked already.

    Under today's names of the labels. About one that has been split, the next run asks anew.
    """
    today = _todays_name(params)
    retired = _retired(params)
    queue = tables.read_table(params.paths.cleaned / "queue.parquet", tables.QUEUE)
    found: dict[tuple[str, str], dict] = {}
    for row in [*queue.to_pylist(), *_mined(params).to_pylist()]:
        label = today(row["label"])
        if label not in retired:
            found.setdefault((row["image_id"], label), {**row, "label": label})
    return pa.Table.from_pylist(list(found.values()), schema=tables.QUEUE)


def resolved_verdicts(params: Params) -> ResolvedVerdicts:
    """What the verdicts' file says about today's images in today's labels."""
    taxonomy = read_taxonomy(params.paths.taxonomy)
    columns = ["image_id", "sha256", "status"]
    images = tables.read_table(params.paths.mapped / "images.parquet", tables.IMAGES, columns)
    return resolve(read_verdicts(params.paths.verdicts, taxonomy), images, taxonomy)


def _names(params: Params) -> dict[str, str]:
    """Name shown of each label, of the last run and of today's taxonomy; of retired ones the id."""
    words = Workspace(params.paths).vocabulary()
    today = {label.id: label.display_name for label in read_taxonomy(params.paths.taxonomy).labels}
    return (
        dict(zip(words.labels, words.display_names, strict=True)) | today | {label: label for label in _retired(params)}
    )


def _retired(params: Params) -> set[str]:
    """Labels that a migration has replaced."""
    return {label for step in read_taxonomy(params.paths.taxonomy).migrations for label in step.retired}


def _todays_name(params: Params) -> Callable[[str], str]:
    """What a label of any age is called today; one that has been split keeps its name."""
    migrations = read_taxonomy(params.paths.taxonomy).migrations

    def name(label: str) -> str:
        labels = todays_labels(label, migrations)
        return labels[0] if len(labels) == 1 else label

    return name


def _points(predictions: Predictions, image_ids: set[str]) -> dict[str, tuple[float, float]]:
    """Place of each image in the embeddings plot, {} without embeddings."""
    rows = [row for row, image_id in enumerate(predictions.image_ids) if image_id in image_ids]
    if predictions.embeddings_ND is None or not rows:
        return {}
    points = plane(predictions.embeddings_ND[rows]).tolist()
    return {predictions.image_ids[row]: (x, y) for row, (x, y) in zip(rows, points, strict=True)}


def record_verdict(params: Params, image_id: str, label: str, answer: str, who: str) -> str:
    """Append one verdict given at the terminal; returns a line for the person. Raises VerdictError."""
    given = _importer(params, who, datetime.now(UTC)).verdict(image_id, label, answer, where="verdict")
    added = append_verdicts(params.paths.verdicts, [given])
    return f"{image_id}: {label} {answer} by {who}" + ("" if added else " (already recorded)")


def import_verdicts(params: Params, path: Path, file_format: str | None, who: str) -> str:
    """Append the verdicts of another tool's export; returns a line for the person. Raises VerdictError: place, remedy.

    file_format: of FORMATS; told from the file's beginning when None.  who: of verdicts whose author it does not name.
    Verdicts without a time of their own have that of the export or of the file. Of those, what the same person said at
    any time is left out, for a copy of the file is newer than the word of somebody who has changed their mind since.
    """
    text = read_export(path)
    name = file_format or detect(text, where=str(path))
    if name not in FORMATS:
        raise VerdictError(f"review import: --format: '{name}' is unknown. {did_you_mean(name, FORMATS)}")
    importer = _importer(params, who, datetime.fromtimestamp(path.stat().st_mtime, UTC))
    found = FORMATS[name](text, importer, where=str(path))
    today, before = _todays_name(params), read_verdicts(params.paths.verdicts)
    said = {(v.who, v.sha256 or v.image_id, today(v.label), v.verdict) for v in before}

    def repeats(v: Verdict) -> bool:
        return any((v.who, image, today(v.label), v.verdict) in said for image in (v.sha256, v.image_id))

    new = [v for v in found if not (v in importer.undated and repeats(v))]
    added = append_verdicts(params.paths.verdicts, new)
    return f"{len(found)} verdicts in {path} ({name}), {added} of them new"


def _importer(params: Params, who: str, when: datetime) -> Importer:
    images = tables.read_table(params.paths.mapped / "images.parquet", tables.IMAGES)
    return Importer(images, read_taxonomy(params.paths.taxonomy), who, when.isoformat(timespec="seconds"))
