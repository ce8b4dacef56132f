"""Annotations, proposals and verdicts -> cleaned labels, a ranked review queue, conflicts."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa

from tasks.cleaning import POLICIES
from tasks.cleaning.changes import apply_changes, implied_pairs, policy_assertions
from tasks.cleaning.decisions import batches, fit_policy, labels_to_clean
from tasks.cleaning.weak_sources import WeakSources, model_proposals
from tasks.core.gaps import not_refuted, without
from tasks.core.gaps_shown import Shown, all_gaps
from tasks.core.ledger import Ledger
from tasks.core.workspace import Workspace
from tasks.params import Params
from tasks.review.agreement import resolve
from tasks.review.audit import answered_pairs, review_summary
from tasks.review.queue import QuestionQueue
from tasks.review.verdicts import read_verdicts
from tasks.taxonomy.exclusions import contradiction_line
from tasks.taxonomy.reading import read_taxonomy


def run(params: Params) -> None:
    """A policy changes labels of train images; people's verdicts change those of every image."""
    workspace, taxonomy = Workspace(params.paths), read_taxonomy(params.paths.taxonomy)
    images = workspace.read("mapped.images", ["image_id", "source", "sha256", "status", "width", "height"])
    labels, unknown = workspace.read("deduplicated.labels"), workspace.read("deduplicated.unknown")
    proposals, coverage = workspace.read("mapped.proposals"), workspace.read("mapped.coverage")
    image_ids, out_of_fold = workspace.image_ids("train", "calibration"), workspace.predictions("out_of_fold")
    states = workspace.states("deduplicated", image_ids, labels_to_clean(taxonomy))

    verdicts = resolve(lines := read_verdicts(params.paths.verdicts, taxonomy), images, taxonomy)
    resolved = (verdicts.resolved | implied_pairs(verdicts.assertions, taxonomy)) - verdicts.needs_review
    split = {(row["image_id"], row["label"]) for row in workspace.read("mapped.look_again").to_pylist()}

    answered = answered_pairs(states, verdicts)
    gaps = not_refuted(all_gaps(states, images, coverage, Shown.of(out_of_fold, states)), states, answered)
    sources = WeakSources(without(states, gaps), out_of_fold, proposals, workspace.read("mapped.label_spaces"))
    name = params.clean.policy.name if params.clean.enabled else "none"
    policy = params.clean.policy.build(POLICIES, where="params.yaml: clean.policy") if params.clean.enabled else None
    only_asked = workspace.image_ids("calibration") if params.clean.calibration == "verdicts" else []
    fitted = fit_policy(policy, sources, states, taxonomy, answered=answered, only_asked=only_asked, gaps=gaps)

    asking = {"budget": params.review.budget, "audit_share": params.review.audit_share, "seed": params.seed}
    queue = QuestionQueue(states, resolved=resolved, needs_review=verdicts.needs_review | split, **asking)
    actions, by_policy = Counter[str](), list[pa.Table]()
    for rows in batches(states):
        decisions = fitted.decide(rows)
        actions.update(decisions.counts())
        by_policy.append(policy_assertions(states.take(rows), decisions, origin=f"rule:{name}"))
        queue.add(rows, decisions.p_present_NC, decisions.p_wrong_NC, fitted.gap_NC[rows])
    questions, p_present_VC = queue.ranked(), fitted.decide(answered[0]).p_present_NC
    review = review_summary(states, p_present_VC, verdicts, questions, resolved=resolved, seed=params.seed)

    assertions = [verdicts.assertions, pa.concat_tables(by_policy)]
    flow = {"positives": params.map_labels.propagate_positives, "negatives": params.map_labels.propagate_negatives}
    cleaned = apply_changes(labels, unknown, assertions, taxonomy, coverage=coverage, images=images, **flow)

    workspace.write("cleaned.labels", cleaned.labels)
    workspace.write("cleaned.unknown", cleaned.unknown)
    seen = {"image_ids": json.dumps(image_ids, ensure_ascii=False)}
    workspace.write("cleaned.changes", cleaned.changes.replace_schema_metadata(seen))
    workspace.write("cleaned.proposals", pa.concat_tables([proposals, model_proposals(out_of_fold)]))
    workspace.write("cleaned.queue", questions)
    workspace.write("cleaned.review", verdicts.disputed() | {"contradictions": cleaned.contradictions.to_pylist()})
    report = {"policy": name, "images": len(image_ids), "actions": actions, "queue": questions.num_rows}
    workspace.write("cleaning_report", {**report, **fitted.report(), "review": review})

    ledger = Ledger("clean")
    rows, active = cleaned.labels.num_rows, len(verdicts.active)
    ledger.book("labels", num_in=labels.num_rows, added=cleaned.added, dropped=cleaned.dropped, num_out=rows)
    ledger.book("verdicts", num_in=len(lines), added=verdicts.added, dropped=verdicts.dropped, num_out=active)
    ledger.warn(contradiction_line(cleaned.contradictions.to_pylist()))
    for message in fitted.messages:
        ledger.note(f"{name}: {message}")
    workspace.book(ledger)
