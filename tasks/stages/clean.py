"""Annotations, proposals and verdicts -> cleaned labels, a ranked review queue, conflicts."""

from __future__ import annotations

import json

import pyarrow as pa

from tasks import matrices, tables
from tasks.labels.agreement import Settled, settle
from tasks.labels.audit import review_summary
from tasks.labels.changes import Restated, policy_statements, restate, settled_by
from tasks.labels.cleaning import POLICIES, Cleaned, nothing_to_do, spare_wholes
from tasks.labels.proposals import model_proposals, opinions_of
from tasks.labels.queue import open_cells, questions
from tasks.labels.taxonomy import read_taxonomy
from tasks.labels.verdicts import read_verdicts
from tasks.ledger import Ledger
from tasks.params import Params
from tasks.stages._common import images_of, labels_of, partition_ids, read_splits, write_ledger

ACTIONS = ("kept", "made_present", "made_absent", "made_unknown")


def run(params: Params) -> None:
    """A policy changes labels of train and calibration images; people's verdicts change those of every image."""
    paths, out = params.paths, params.paths.cleaned
    taxonomy = read_taxonomy(paths.taxonomy)
    images = images_of(params, columns=["image_id", "source", "sha256", "status"])
    labels = tables.read_table(paths.deduplicated / "labels.parquet", tables.LABELS)
    unknown = tables.read_table(paths.deduplicated / "unknown.parquet", tables.UNKNOWN)
    coverage = tables.read_table(paths.mapped / "coverage.parquet", tables.COVERAGE)
    look_again = tables.read_table(paths.mapped / "look_again.parquet", tables.LOOK_AGAIN)
    verdicts = read_verdicts(paths.verdicts, taxonomy)
    ids = partition_ids(read_splits(params), "train", "calibration")
    judgeable = [label.id for label in taxonomy.labels if not (label.closed and taxonomy.children[label.id])]
    dense = labels_of(params, paths.deduplicated, ids, judgeable)  # a closed whole follows from its kinds

    judged = settle(verdicts, images, taxonomy)
    policy, decided, proposals = decide(params, dense)
    kinds_C = [[judgeable.index(kind) for kind in taxonomy.descendants[h] if kind in judgeable] for h in judgeable]
    decided = spare_wholes(decided, dense.targets_NC, dense.known_NC, kinds_C)
    cleaned = restate(
        labels,
        unknown,
        [judged.statements, policy_statements(dense, decided, origin=f"rule:{policy}")],
        taxonomy,
        coverage=coverage,
        sources=images,
        positives=params.map_labels.propagate_positives,
        negatives=params.map_labels.propagate_negatives,
    )
    answered = (judged.answered | settled_by(judged.statements, taxonomy)) - judged.reopened
    askable_NC = open_cells(dense, answered)
    split = set(zip(*(look_again[name].to_pylist() for name in ("image_id", "label")), strict=True))
    options = {**params.review.model_dump(include={"budget", "audit_share"}), "seed": params.seed}
    queue = questions(dense, decided, askable_NC=askable_NC, reopened=judged.reopened | split, **options)

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
        "actions": {name: int((decided.action_NC == n).sum()) for n, name in enumerate(ACTIONS)},
        "queue": queue.num_rows,
        "review": review_summary(dense, decided.present_NC, judged, queue, answered=answered, seed=params.seed),
    }
    tables.write_json(paths.cleaning_report, report)
    account(params, labels, verdicts, cleaned, judged)


def decide(params: Params, dense: matrices.DenseLabels) -> tuple[str, Cleaned, pa.Table]:
    """The policy's name, its decisions, and all proposals, the model's own (on the pool too) among them."""
    proposals = tables.read_table(params.paths.mapped / "proposals.parquet", tables.LABELS)
    spoken = tables.read_table(params.paths.mapped / "proposal_coverage.parquet", tables.COVERAGE)
    crossfit = matrices.read_predictions(params.paths.crossfit)
    everything = pa.concat_tables([proposals, model_proposals(crossfit, origin="model:crossfit")])
    if not params.clean.enabled:
        return "none", nothing_to_do(dense.targets_NC, dense.known_NC), everything
    policy = params.clean.policy.build(POLICIES, where="params.yaml: clean.policy")
    decided = policy(dense.targets_NC, dense.known_NC, opinions_of(dense, crossfit, proposals, spoken))
    return params.clean.policy.name, decided, everything


def account(params: Params, labels: pa.Table, verdicts: list, cleaned: Restated, judged: Settled) -> None:
    """The ledger's entry: label rows and verdicts."""
    ledger = Ledger("clean")
    of_labels = {"came_in": labels.num_rows, "added": cleaned.added, "dropped": cleaned.dropped}
    ledger.book("labels", **of_labels, went_out=cleaned.labels.num_rows)
    of_verdicts = {"came_in": len(verdicts), "added": judged.added, "dropped": judged.dropped}
    ledger.book("verdicts", **of_verdicts, went_out=len(judged.standing))
    if not params.clean.enabled:
        ledger.note("policy turned off in params.yaml; only people's verdicts change annotations")
    write_ledger(ledger, params)
