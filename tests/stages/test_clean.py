"""The clean stage on tables written by hand: who may change which partition, and that the books balance."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console

from tasks.core import tables
from tasks.core.errors import VerdictError
from tasks.core.prediction_table import Predictions, write_predictions
from tasks.core.workspace import Workspace
from tasks.params import Params, load_params
from tasks.review.queue import AUDIT
from tasks.review.status import review_status
from tasks.review.verdicts import Verdict, append_verdicts
from tasks.stages import clean
from tests.conftest import ROOT

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LABELS = [*DIGITS, "even", "odd"]
PARTITIONS = {"train": 300, "calibration": 60, "test": 40, "pretrain": 10, "pool": 10}


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    """What the stages before `clean` leave: 360 images whose annotations have errors, and scores that know better."""
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    paths, rng = params.paths, np.random.default_rng(0)
    partitions = [name for name, count in PARTITIONS.items() for _ in range(count)]
    ids = [f"set/{n:03}" for n in range(len(partitions))]
    true_NC = rng.random((len(ids), 10)) < 0.2
    given_NC = np.where(rng.random(true_NC.shape) < np.where(true_NC, 0.15, 0.01), ~true_NC, true_NC)
    scores_NC = np.clip(0.8 * true_NC + 0.1 + rng.normal(0, 0.05, true_NC.shape), 0, 1).astype(np.float32)

    def write(path, schema, **columns):
        tables.write_table(path, pa.table(columns), schema)

    hashes = [f"h{n}" for n in range(len(ids))]
    write(
        paths.mapped / "images.parquet",
        tables.IMAGES,
        image_id=ids,
        source=["set"] * len(ids),
        uri=ids,
        sha256=hashes,
        status=["ok"] * len(ids),
        **{
            name: pa.nulls(len(ids))
            for name in set(tables.IMAGES.names) - {"image_id", "source", "uri", "sha256", "status"}
        },
    )
    write(paths.splits, tables.SPLITS, image_id=ids, partition=partitions, fold=[0] * len(ids))
    n, c = np.nonzero(given_NC)
    more = {"state": [1] * len(n), "confidence": [1.0] * len(n), "origin": ["annotation"] * len(n)}
    pairs = {"image_id": [ids[i] for i in n], "label": [DIGITS[j] for j in c]}
    write(paths.deduplicated / "labels.parquet", tables.LABELS, **pairs, **more)
    write(
        paths.deduplicated / "unknown.parquet",
        tables.UNKNOWN,
        image_id=pa.array([], pa.string()),
        label=pa.array([], pa.string()),
    )
    write(paths.mapped / "coverage.parquet", tables.COVERAGE, source=["set"] * 12, label=LABELS)
    tables.write_table(paths.mapped / "proposals.parquet", tables.empty(tables.LABELS))
    tables.write_table(paths.mapped / "label_spaces.parquet", tables.empty(tables.COVERAGE))
    tables.write_table(paths.mapped / "look_again.parquet", tables.empty(tables.LOOK_AGAIN))
    tables.write_json(paths.mapped / "vocabulary.json", {"labels": LABELS, "groups": [], "display_names": LABELS})
    shown = [i for i, name in enumerate(partitions) if name in ("train", "calibration", "pool")]
    both_NC = np.concatenate(
        [scores_NC, scores_NC[:, ::2].max(1, keepdims=True), scores_NC[:, 1::2].max(1, keepdims=True)], 1
    )
    out_of_fold = Predictions(
        [ids[i] for i in shown], [partitions[i] for i in shown], LABELS, both_NC[shown], "", "raw", both_NC[shown]
    )
    write_predictions(paths.out_of_fold, out_of_fold)
    paths.taxonomy.parent.mkdir(parents=True)
    shutil.copy(ROOT / "data/taxonomy/taxonomy.yaml", paths.taxonomy)
    return params


def judge(params: Params, image_id: str, label: str, verdict: str, who: str = "ann", **more: str) -> None:
    when = more.pop("when", "2026-05-01T00:00:00+00:00")
    append_verdicts(params.paths.verdicts, [Verdict(image_id, label, verdict, who, when, **more)])


def run(params: Params) -> dict:
    """The cleaning report after a run whose ledger balances."""
    clean.run(params)
    return tables.read_json(params.paths.cleaning_report)


def changed(params: Params) -> list[dict]:
    return tables.read_table(params.paths.cleaned / "changes.parquet", tables.CHANGES).to_pylist()


def queue(params: Params) -> list[dict]:
    return tables.read_table(params.paths.cleaned / "queue.parquet", tables.QUEUE).to_pylist()


def state(params: Params, image_id: str, label: str) -> int:
    """1, 0 or -1, with the source's coverage."""
    folder = params.paths.cleaned
    for row in tables.read_table(folder / "labels.parquet", tables.LABELS).to_pylist():
        if (row["image_id"], row["label"]) == (image_id, label):
            return row["state"]
    marked = tables.read_table(folder / "unknown.parquet", tables.UNKNOWN).to_pylist()
    return -1 if {"image_id": image_id, "label": label} in marked else 0


def turned_off(params: Params) -> Params:
    return params.model_copy(update={"clean": params.clean.model_copy(update={"enabled": False})})


def test_the_policy_touches_train_alone_unless_an_option_lets_it_touch_calibration(params):
    report = run(params)
    assert report["actions"]["made_present"] > 10
    touched = {row["image_id"] for row in changed(params)}
    assert touched <= {f"set/{n:03}" for n in range(300)}
    assert {q["image_id"] for q in queue(params)} - {f"set/{n:03}" for n in range(300)}, "calibration images are asked"
    clean_section = params.clean.model_copy(update={"calibration": "policy"})
    run(params.model_copy(update={"clean": clean_section}))
    touched = {row["image_id"] for row in changed(params)}
    assert touched <= {f"set/{n:03}" for n in range(360)}
    assert max(touched) >= "set/300"


def test_the_report_tells_each_label_s_rates_and_the_ledger_when_the_policy_changes_nothing(params):
    report = run(params)
    assert report["labels"].keys() == set(DIGITS)
    assert report["labels"]["two"]["missing"].keys() == {
        "changes",
        "expected_precision",
        "least_precision",
        "asked",
        "right",
    }
    many = params.clean.policy.model_copy(update={"consensus": {"min_images": 1000}})
    report = run(params.model_copy(update={"clean": params.clean.model_copy(update={"policy": many})}))
    assert "fewer than 1000 images" in report["messages"][0]
    (note,) = json.loads((params.paths.ledger / "clean.json").read_text())["notes"]
    assert note == f"consensus: {report['messages'][0]}"
    assert not changed(params)
    assert len(queue(params)) > 20


def test_a_verdict_changes_every_partition(params):
    for n in (0, 310, 370, 405, 415):  # one of each
        judge(params, f"set/{n:03}", "nine", "present", sha256=f"h{n}")
        judge(params, f"set/{n:03}", "eight", "absent")
    run(params)
    for n in (0, 310, 370, 405, 415):
        assert state(params, f"set/{n:03}", "nine") == 1
        assert state(params, f"set/{n:03}", "odd") == 1
        assert state(params, f"set/{n:03}", "eight") == 0


def test_a_verdict_outranks_the_policy_and_is_not_asked_again(params):
    run(params)
    row = next(r for r in changed(params) if r["rule"] == "rule:consensus" and r["after"] == 1)
    judge(params, row["image_id"], row["label"], "absent")
    question = queue(params)[0]
    judge(params, question["image_id"], question["label"], "unsure")
    run(params)
    assert state(params, row["image_id"], row["label"]) == 0
    assert state(params, question["image_id"], question["label"]) == -1
    questions = {(q["image_id"], q["label"]) for q in queue(params)}
    assert not questions & {(r["image_id"], r["label"]) for r in (row, question)}


def test_with_cleaning_off_only_verdicts_and_the_audit_remain(params):
    judge(params, "set/000", "nine", "present")
    report = run(turned_off(params))
    assert report["policy"] == "none"
    assert {row["rule"] for row in changed(params)} <= {"review:ann", "rule:implies"}
    assert {row["reason"] for row in queue(params)} == {AUDIT}


def test_without_scores_nothing_is_accused(params):
    nothing = Predictions([], [], LABELS, np.zeros((0, 12), np.float32), "", "raw")
    write_predictions(params.paths.out_of_fold, nothing)
    report = run(params)
    assert report["actions"]["kept"] == 360 * 10
    assert not changed(params)


def test_two_people_who_contradict_each_other_through_the_taxonomy_are_told_where_a_person_looks(params, caplog):
    """Ann says that nothing even is there, Bob that a two is: each alone can stand, and both cannot."""
    judge(params, "set/001", "even", "absent", who="ann")
    judge(params, "set/001", "two", "present", who="bob")
    run(turned_off(params))
    says = "2 pairs contradict others of their image, e.g. 'two' of set/001"
    assert says in (params.paths.ledger / "clean.json").read_text()
    assert says in caplog.text
    console = Console(file=io.StringIO(), width=300)
    console.print(review_status(Workspace(params.paths)))
    assert says in console.file.getvalue()


def test_disagreement_and_lost_verdicts_are_listed(params):
    judge(params, "set/001", "two", "present", who="ann")
    judge(params, "set/001", "two", "absent", who="bob")
    judge(params, "set/nowhere", "two", "absent")
    report = run(params)
    listed = json.loads((params.paths.cleaned / "review.json").read_text())
    assert [c["verdicts"] for c in listed["conflicts"]] == [{"ann": "present", "bob": "absent"}]
    assert [u["why"] for u in listed["unmatched"]] == ["the image has vanished"]
    assert (report["review"]["conflicts"], report["review"]["unmatched"]) == (1, 1)
    assert report["review"]["agreement"][0]["pairs"] == 1
    assert state(params, "set/001", "two") == -1
    assert ("set/001", "two", -1) in {(q["image_id"], q["label"], q["given"]) for q in queue(params)}


def test_people_at_odds_about_a_test_image_or_a_parent_are_asked_again(params):
    for image_id, label in (("set/370", "two"), ("set/001", "even")):
        judge(params, image_id, label, "present", who="ann")
        judge(params, image_id, label, "absent", who="bob")
    run(params)
    assert {("set/370", "two", -1), ("set/001", "even", -1)} <= {
        (q["image_id"], q["label"], q["given"]) for q in queue(params)
    }


def test_what_follows_from_a_verdict_is_not_asked(params):
    for n in range(360):
        judge(params, f"set/{n:03}", "even", "absent")
    run(params)
    assert {q["label"] for q in queue(params)} <= {"one", "three", "five", "seven", "nine"}


def test_a_parent_with_other_children_than_ours_is_looked_at_like_any_label(params):
    text = params.paths.taxonomy.read_text(encoding="utf-8")
    params.paths.taxonomy.write_text(
        text.replace("exhaustive_children: true", "exhaustive_children: false"), encoding="utf-8"
    )
    path = params.paths.deduplicated / "labels.parquet"
    labels = tables.read_table(path, tables.LABELS)
    even = {row["image_id"] for row in labels.to_pylist() if row["label"] in DIGITS[::2]}
    noticed = [image_id for n, image_id in enumerate(sorted(even)) if n % 5]
    rows = [{"image_id": i, "label": "even", "state": 1, "confidence": 1.0, "origin": "annotation"} for i in noticed]
    more = pa.Table.from_pylist(rows, schema=tables.LABELS)
    tables.write_table(path, pa.concat_tables([labels, more]).sort_by("image_id"), tables.LABELS)
    report = run(params)
    assert (
        "too little skill" in report["labels"]["even"]["why"]
    )  # as measured by annotations of which a fifth is missing
    unnoticed = even - set(noticed)
    asked = {q["image_id"] for q in queue(params) if (q["label"], q["reason"]) == ("even", "missing?")}
    assert len(asked & unnoticed) > 0.5 * len(asked)


def migrate(params: Params, steps: str) -> None:
    """Replace the (empty) migrations of the taxonomy."""
    text = params.paths.taxonomy.read_text(encoding="utf-8")
    assert text.count("migrations: []") == 1
    params.paths.taxonomy.write_text(text.replace("migrations: []", f"migrations: {steps}"), encoding="utf-8")


def test_verdicts_of_before_a_rename_still_hold(params):
    for image_id in ("set/001", "set/002"):
        judge(params, image_id, "couple", "present")
    judge(params, "set/002", "two", "absent", when="2026-06-01T00:00:00+00:00")  # the same person, after the rename
    before = params.paths.verdicts.read_bytes()
    migrate(params, "[{rename: {couple: two}}]")
    run(params)
    assert (state(params, "set/001", "two"), state(params, "set/001", "even")) == (1, 1)
    assert state(params, "set/002", "two") == 0
    assert params.paths.verdicts.read_bytes() == before


def test_what_a_split_leaves_open_is_unknown_and_asked_first(params):
    judge(params, "set/001", "curl", "present")
    unasked = {"image_id": ["set/003"], "label": ["nine"], "was": ["curl"]}
    tables.write_table(params.paths.mapped / "look_again.parquet", pa.table(unasked), tables.LOOK_AGAIN)
    migrate(params, "[{split: {curl: [six, nine]}}]")
    report = run(params)
    assert {state(params, "set/001", label) for label in ("six", "nine")} == {-1}
    listed = json.loads((params.paths.cleaned / "review.json").read_text())
    assert [(v["label"], v["now"]) for v in listed["ask_again"]] == [("curl", ["six", "nine"])]
    assert report["review"]["ask_again"] == 1
    given = {(q["image_id"], q["label"]): q["given"] for q in queue(params)}
    assert [given[pair] for pair in (("set/001", "six"), ("set/001", "nine"), ("set/003", "nine"))] == [-1] * 3


def test_people_whose_verdicts_a_merge_brings_together_can_be_at_odds(params):
    judge(params, "set/001", "rounded", "present", who="ann")
    judge(params, "set/001", "curled", "present", who="ann")
    judge(params, "set/001", "rounded", "absent", who="bob")
    judge(params, "set/001", "curled", "absent", who="bob")
    migrate(params, "[{merge: {eight: [rounded, curled]}}]")
    run(params)
    listed = json.loads((params.paths.cleaned / "review.json").read_text())
    assert [c["verdicts"] for c in listed["conflicts"]] == [{"ann": "present", "bob": "absent"}]
    assert state(params, "set/001", "eight") == -1


def test_a_line_with_a_typo_stops_the_stage_before_it_writes(params):
    judge(params, "set/001", "two", "present")
    typo = {"image_id": "set/002", "label": "twoo", "verdict": "absent", "who": "x", "when": "2026-05-01T00:00:00Z"}
    with params.paths.verdicts.open("a") as file:
        file.write(json.dumps(typo) + "\n")
    with pytest.raises(VerdictError, match=r"verdicts\.jsonl:2: label: no label 'twoo'\. Did you mean 'two'"):
        clean.run(params)
    assert not params.paths.cleaned.exists()


def test_running_twice_gives_the_same_bytes(params):
    judge(params, "set/001", "two", "present")
    run(params)
    first = {path.name: path.read_bytes() for path in params.paths.cleaned.iterdir()}
    run(params)
    assert {path.name: path.read_bytes() for path in params.paths.cleaned.iterdir()} == first


def test_the_model_s_proposals_are_kept_with_their_origin(params):
    run(params)
    proposals = tables.read_table(params.paths.cleaned / "proposals.parquet", tables.LABELS)
    assert pc.unique(proposals["origin"]).to_pylist() == ["model:out_of_fold"]
    assert any(image_id >= "set/410" for image_id in proposals["image_id"].to_pylist()), "the pool has some too"


def test_asking_costs_no_more_than_the_budget(params):
    run(params)
    questions = queue(params)
    assert 0 < len(questions) <= params.review.budget
    assert sum(q["reason"] == AUDIT for q in questions) == round(params.review.budget * params.review.audit_share)


@pytest.mark.parametrize("believes", [True, False])
def test_a_label_that_a_batch_of_ids_never_has_is_taken_from_the_sources_there(params, believes):
    path = params.paths.deduplicated / "labels.parquet"
    labels = tables.read_table(path, tables.LABELS).to_pylist()
    batch = {f"set/{n:03}" for n in range(60, 220)}
    lost = {r["image_id"] for r in labels if r["label"] == "zero" and r["image_id"] in batch}
    kept = [row for row in labels if (row["image_id"], row["label"]) not in {(i, "zero") for i in lost}]
    tables.write_table(path, pa.Table.from_pylist(kept, schema=tables.LABELS))
    if believes:  # somebody looked, and said so
        table = tables.read_table(params.paths.mapped / "coverage.parquet", tables.COVERAGE)
        covered = table.filter(pc.not_equal(table["label"], "zero"))
        tables.write_table(params.paths.mapped / "coverage.parquet", covered)
    report = run(params)
    assert any("'zero' is never annotated on 1" in message for message in report["messages"]) != believes
    if not believes:
        found = {r["image_id"] for r in changed(params) if r["label"] == "zero" and r["image_id"] in batch}
        assert len(found & lost) > 0.9 * len(lost)
        assert len(found - lost) < 0.3 * len(lost), "those that the annotators missed anyway"


def test_ten_people_who_look_into_a_gap_and_find_nothing_are_believed(params):
    path = params.paths.deduplicated / "labels.parquet"
    labels = tables.read_table(path, tables.LABELS).to_pylist()
    batch = {f"set/{n:03}" for n in range(60, 220)}
    with_zero = {r["image_id"] for r in labels if r["label"] == "zero" and r["image_id"] in batch}
    kept = [row for row in labels if row["label"] != "zero" or row["image_id"] not in with_zero]
    tables.write_table(path, pa.Table.from_pylist(kept, schema=tables.LABELS))
    train = set(Workspace(params.paths).image_ids("train"))
    for image_id in sorted(batch & train - with_zero)[:10]:
        judge(params, image_id, "zero", "absent")
    assert not any("never annotated" in message for message in run(params)["messages"])
