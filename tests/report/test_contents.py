"""What the page and the model card say of an evaluation; tests/report/test_page.py shows it in a browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from tasks.core import tables
from tasks.mapping.coverage import coverage_report
from tasks.mapping.mapping import map_rows
from tasks.metrics.protocols import PROTOCOLS
from tasks.report.label_parts import chosen_examples
from tasks.report.model_card import render_model_card
from tasks.report.page import Findings, protocol_message, render_report, unknown_labels
from tasks.stages import calibrate, evaluate
from tasks.taxonomy.reading import parse_taxonomy
from tests.evaluation.test_scored_set import LABELS, home
from tests.taxonomy.kits import label_rows


def coverage() -> dict:
    """The report of a source with one name that stands in the taxonomy and two that do not."""
    taxonomy = parse_taxonomy({"labels": [{"id": "cat", "from": {"v": ["cat"]}}]})
    rows = [("i", "cat", 1), ("i", "cta", 1), ("j", "cta", 0), ("j", "/m/1", 1)]
    mapped = {"zoo": map_rows(label_rows(rows), taxonomy, "v")}
    return coverage_report(mapped, {"zoo": {"/m/1": "Dog"}}, {"zoo": "v"}, taxonomy)


@pytest.fixture(scope="module")
def findings(tmp_path_factory) -> Findings:
    """An evaluation under `asl` in which keys are never predicted."""
    params = home(tmp_path_factory.mktemp("home"), evaluate={"protocol": "asl"})
    paths = params.paths
    calibrate.run(params)
    thresholds = tables.read_json(paths.thresholds)
    thresholds["labels"]["key"]["threshold"] = None
    tables.write_json(paths.thresholds, thresholds)
    evaluate.run(params)
    written = ("result", "findings", "change", "curves", "mistakes")
    files = {name: tables.read_json(paths.evaluation / f"{name}.json") for name in written}
    return Findings(
        title="Zoo",
        **files,
        metrics=tables.read_json(paths.metrics),
        thresholds=thresholds,
        learning=[],
        coverage=json.loads(json.dumps(coverage())),
        duplicates={"duplicate_images": 1, "duplicate_groups": 1},
        cleaning={"policy": "none", "actions": {}, "queue": 0},
        resampling={"labels": [], "cooccurrence": {"labels": [], "conditional": []}},
        export={},
        ledger=[],
        display_names={label: label for label in LABELS},
        worst=files["mistakes"]["worst"],
        decisions={},
        examples=chosen_examples(files["mistakes"]["examples"], dict.fromkeys(LABELS), most=9),
        origins={"cat": [("annotation", 12, 3)]},
        changes={"cat": [("absent", "present", "rule:consensus", 2)]},
        pictures={m["image_id"]: "data:," for m in files["mistakes"]["worst"]},
        made={"made from": "0a4af71 of 2026-11-27", "network": "resnet <small>"},
    )


def test_a_mistake_of_a_label_that_is_never_predicted_says_so(findings):
    key = next(m for m in findings.mistakes["worst"] if m["label"] == "key")
    assert key["threshold"] is None
    assert f"<b>key</b> {key['score']:.2f}, never predicted<br>" in render_report(findings)


def test_source_labels_without_a_place_are_listed_with_their_rows_and_the_nearest_label(findings):
    page = render_report(findings)
    listed = page[page.index("Source labels without a place in the taxonomy (2)") :]
    rows = re.findall(r"<tr>(.*?)</tr>", listed[: listed.index("</table>")])[1:]
    assert [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows] == [
        ["zoo", "cta", "2", "cat"],
        ["zoo", "/m/1 (Dog)", "1", ""],
    ]


def test_the_page_says_from_which_commit_and_network_it_was_made(findings):
    page = render_report(findings)
    provenance = page[page.index('id="provenance"') :]
    assert '<td>made from</td><td class="text"><code>0a4af71 of 2026-11-27</code>' in provenance
    assert "resnet &lt;small&gt;" in provenance


def test_a_page_of_600_labels_and_300_pictures_stays_under_10_mb(findings):
    ids = [f"{label} {n}" for n in range(150) for label in LABELS]

    def for_each(given: dict) -> dict:
        return {name: given[name.rpartition(" ")[0]] for name in ids}

    curve = {"threshold": np.linspace(1, 0, 200).tolist(), "precision": [0.5] * 200, "recall": [0.7] * 200}
    examples = {name: {"false negative": [{"image_id": "i", "score": 0.1}]} for name in ids[:300]}
    page = render_report(
        replace(
            findings,
            result={**findings.result, "labels": for_each(findings.result["labels"])},
            thresholds={**findings.thresholds, "labels": for_each(findings.thresholds["labels"])},
            curves={**findings.curves, "labels": dict.fromkeys(ids, curve)},
            examples=examples,
            pictures={"i": "data:image/jpeg;base64," + "A" * 12_000},  # 9 KB before it became text
            worst=[],
            origins={},
            changes={},
        )
    )
    assert page.count('class="part"') == 600
    assert 300 * 12_000 < len(page) < 10_000_000


def stamp(protocol: str) -> dict:
    names = {"image_ids": ["i"], "labels": ["cat", "dog"], "absent_labels": ["dog"]}
    return PROTOCOLS[protocol].stamp(**names, threshold_rule="fixed", weights_kind="ema")


@pytest.mark.parametrize(
    ("protocol", "absent", "unknown"),
    [
        ("tagwright", "left out of the means: dog", "unknown labels are left out"),
        ("asl", "counted as 0 in the means: dog", "unknown labels are counted as negatives"),
        (
            "mlgcn",
            "which leave the means undefined: dog",
            "unknown labels are left out in average precision and counted as negatives in precision, recall and F1",
        ),
    ],
)
def test_absent_labels_and_unknown_entries_are_named_as_the_protocol_counts_them(protocol, absent, unknown):
    message = protocol_message(stamp(protocol))
    assert f"Labels without a positive here, {absent}." in message
    assert f", {unknown}, " in message
    assert unknown_labels(stamp(protocol)) == unknown


def test_the_card_does_not_claim_that_a_protocol_leaves_unknown_entries_out(findings):
    card = render_model_card(findings, ["zoo"])
    assert "Test images: 120; unknown labels are counted as negatives.\n" in card


def test_a_bar_in_a_name_leaves_the_card_s_table_whole(findings):
    card = render_model_card(replace(findings, display_names={"key": "key|lock"}), ["zoo"])
    row = next(line for line in card.splitlines() if "lock" in line)
    assert row.startswith("| key\\|lock | ")
