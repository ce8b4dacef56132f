"""Annotations, proposals and verdicts -> cleaned labels, a ranked review queue, conflicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from tasks.cleaning.changes import ChangedLabels, apply_changes, policy_assertions, resolved_by
from tasks.cleaning.noise import rows_to_fit
from tasks.cleaning.policies import POLICIES, Cleaned, keep_implied_parents, nothing_to_do
from tasks.cleaning.weak_sources import WeakSources, model_proposals
from tasks.core import tables
from tasks.core.ledger import Ledger
from tasks.core.prediction_table import read_predictions
from tasks.core.states import States
from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.review.agreement import ResolvedVerdicts, resolve
from tasks.review.audit import review_summary
from tasks.review.queue import questions
from tasks.review.verdicts import read_verdicts
from tasks.taxonomy.reading import read_taxonomy
from tasks.taxonomy.taxonomy import Taxonomy

BLOCK_CELLS = 10_000_000  # held in memory at a time
ACTIONS = ("kept", "made_present", "made_absent", "made_unknown")


def run(params: Params) -> None:
    """A policy changes labels of train and calibration images; people's verdicts change those of every image."""
    paths, out = params.paths, params.paths.cleaned
    taxonomy = read_taxonomy(paths.taxonomy)
    images = Workspace(params.paths).read("mapped.images", ["image_id", "source", "sha256", "status"])
    labels = tables.read_table(paths.deduplicated / "labels.parquet", tables.LABELS)
    unknown = tables.read_table(paths.deduplicated / "unknown.parquet", tables.UNKNOWN)
    coverage = tables.read_table(paths.mapped / "coverage.parquet", tables.COVERAGE)
    look_again = tables.read_table(paths.mapped / "look_again.parquet", tables.LOOK_AGAIN)
    verdicts = read_verdicts(paths.verdicts, taxonomy)
    ids = Workspace(params.paths).image_ids("train", "calibration")
    judgeable = [label.id for label in taxonomy.labels if not label.exhaustive_children]
    dense = Workspace(params.paths).states("deduplicated", ids, judgeable)  # a closed whole follows from its kinds

    judged = resolve(verdicts, images, taxonomy)
    policy, decide, proposals = decisions(params, dense, taxonomy)
    statements, actions = [], np.zeros(len(ACTIONS), np.int64)

    def decided() -> Iterator[tuple[np.ndarray, Cleaned]]:
        """The one pass over all images; what the labels need of it is kept."""
        for rows in np.array_split(np.arange(len(ids)), -(-len(ids) * len(judgeable) // BLOCK_CELLS) or 1):
            cleaned = decide(rows)
            actions[:] += np.bincount(cleaned.action_NC.ravel(), minlength=len(ACTIONS))
            statements.append(policy_assertions(dense.take(rows), cleaned, origin=f"rule:{policy}"))
            yield rows, cleaned

    answered = (judged.answered | resolved_by(judged.statements, taxonomy)) - judged.reopened
    split = set(zip(*(look_again[name].to_pylist() for name in ("image_id", "label")), strict=True))
    asking = {**params.review.model_dump(include={"budget", "audit_share"}), "seed": params.seed}
    queue = questions(dense, decided(), answered=answered, reopened=judged.reopened | split, **asking)
    cleaned = apply_changes(
        labels,
        unknown,
        [judged.statements, pa.concat_tables(statements)],
        taxonomy,
        coverage=coverage,
        sources=images,
        positives=params.map_labels.propagate_positives,
        negatives=params.map_labels.propagate_negatives,
    )

    tables.write_table(out / "labels.parquet", cleaned.labels, tables.LABELS)
    tables.write_table(out / "unknown.parquet", cleaned.unknown, tables.UNKNOWN)
    changes = cleaned.changes.replace_schema_metadata({"image_ids": json.dumps(ids, ensure_ascii=False)})
    tables.write_table(out / "changes.parquet", changes, tables.CHANGES)
    tables.write_table(out / "proposals.parquet", proposals, tables.LABELS)
    tables.write_table(out / "queue.parquet", queue, tables.QUEUE)
    disputed = {"conflicts": judged.conflicts, "unmatched": judged.unmatched, "ask_again": judged.ask_again}
    tables.write_json(out / "review.json", {**disputed, "contradictions": cleaned.contradictions.to_pylist()})
    report = {
        "policy": policy,
        "images": len(ids),
        "actions": dict(zip(ACTIONS, actions.tolist(), strict=True)),
        "queue": queue.num_rows,
        "review": review_summary(
            dense, lambda rows: decide(rows).present_NC, judged, queue, answered=answered, seed=params.seed
        ),
    }
    tables.write_json(paths.cleaning_report, report)
    account(params, labels, verdicts, cleaned, judged)


def decisions(
    params: Params, dense: States, taxonomy: Taxonomy
) -> tuple[str, Callable[[np.ndarray], Cleaned], pa.Table]:
    """The policy's name, what it decides about the images at given positions, and all proposals, the model's own (on
    the pool too) among them."""
    proposals = tables.read_table(params.paths.mapped / "proposals.parquet", tables.LABELS)
    spoken = tables.read_table(params.paths.mapped / "label_spaces.parquet", tables.COVERAGE)
    out_of_fold = read_predictions(params.paths.out_of_fold)
    everything = pa.concat_tables([proposals, model_proposals(out_of_fold, origin="model:out_of_fold")])
    sources = WeakSources(dense, out_of_fold, proposals, spoken)
    name, fitted = "none", nothing_to_do
    if params.clean.enabled:
        name = params.clean.policy.name
        policy = params.clean.policy.build(POLICIES, where="params.yaml: clean.policy")
        sample = rows_to_fit(*dense.known_NC.shape)
        fitted = policy.fit(sources.heard(sample), dense.targets_NC[sample], dense.known_NC[sample])
    column = {label: c for c, label in enumerate(dense.labels)}
    kinds_C = [[column[kind] for kind in taxonomy.descendants[h] if kind in column] for h in dense.labels]

    def decide(rows: np.ndarray) -> Cleaned:
        cells = dense.targets_NC[rows], dense.known_NC[rows]
        return keep_implied_parents(fitted(sources.heard(rows), *cells), *cells, kinds_C)

    return name, decide, everything


def account(params: Params, labels: pa.Table, verdicts: list, cleaned: ChangedLabels, judged: ResolvedVerdicts) -> None:
    """The ledger's entry: label rows and verdicts."""
    ledger = Ledger("clean")
    of_labels = {"num_in": labels.num_rows, "added": cleaned.added, "dropped": cleaned.dropped}
    ledger.book("labels", **of_labels, num_out=cleaned.labels.num_rows)
    of_verdicts = {"num_in": len(verdicts), "added": judged.added, "dropped": judged.dropped}
    ledger.book("verdicts", **of_verdicts, num_out=len(judged.standing))
    if not params.clean.enabled:
        ledger.note("policy turned off in params.yaml; only people's verdicts change annotations")
    Workspace(params.paths).book(ledger)
