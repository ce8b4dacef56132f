"""The pipeline as a user runs it, on a small setting of the embedded data."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
import yaml

from tests.homes import new_home, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

COMPARED = (  # everything a person or a later stage reads
    "data/interim/mapped/labels.parquet",
    "data/interim/deduplicated/groups.parquet",
    "data/interim/splits.parquet",
    "data/interim/cleaned/labels.parquet",
    "data/interim/cleaned/queue.parquet",
    "data/interim/replication.parquet",
    "data/predictions/predictions.parquet",
    "data/models/finetuned/model.safetensors",
    "data/reports/thresholds.json",
    "data/reports/metrics.json",
)


def test_the_flow_leaves_metrics_thresholds_curves_model_card_and_a_self_contained_report(home):
    metrics = json.loads((home / "data/reports/metrics.json").read_text())
    assert 0 < metrics["test"]["mAP"] <= 1
    assert metrics["protocol"]["name"] == "tagwright"
    page = (home / "data/reports/report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "data:image/jpeg" in page
    assert {
        address
        for address in re.findall(r"""(?:src|href)=["']([^"']*)""", page)
        if not address.startswith(("#", "data:"))
    } == set()
    assert not re.search(r"url\((?!#)|@import|fetch\(", page)
    assert len(page) < 10_000_000
    assert (home / "data/reports/model_card.md").exists()
    assert (home / "data/models/model.onnx").exists()


def test_every_stage_has_a_ledger_entry(home):
    stages = {p.stem.split("@")[0] for p in (home / "data/reports/ledger").glob("*.json")}
    assert stages == set(yaml.safe_load((home / "dvc.yaml").read_text())["stages"]) - {"code", "report", "gate"}


def test_the_ledger_counts_the_planted_unreadable_file(home):
    ledger = json.loads((home / "data/reports/ledger/deduplicate.json").read_text())
    assert ledger["units"]["images"]["dropped"]["quarantined"] >= 1


def test_a_second_run_runs_no_stage_and_dvc_agrees(home):
    again = run(home, "flows", "run")
    assert " ran " not in again.stdout
    assert again.stdout.count("fresh") >= len(yaml.safe_load((home / "dvc.yaml").read_text())["stages"])
    assert "up to date" in run(home, "dvc", "status").stdout


def test_git_is_left_with_nothing_but_what_a_person_commits(home):
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=home, check=True, capture_output=True, text=True
    ).stdout
    assert {line[3:] for line in status.splitlines()} == {"dvc.lock"}


def test_dvc_repro_alone_gives_the_same_bytes(home, tmp_path):
    other = new_home(tmp_path)
    run(other, "dvc", "repro")
    for name in COMPARED:
        assert (other / name).read_bytes() == (home / name).read_bytes(), name


def test_editing_the_threshold_rule_reruns_calibrate_and_what_follows_only(home):
    params = (home / "params.yaml").read_text()
    try:
        (home / "params.yaml").write_text(params.replace("name: per_label_f1", "name: global_f1"))
        stale = json.loads(run(home, "dvc", "status", "--json").stdout)
        assert set(stale) == {"calibrate", "code"}  # `code` depends on params.yaml, and will write the same
        run(home, "flows", "run", "--until", "calibrate")
        assert json.loads((home / "data/reports/thresholds.json").read_text())["rule"] == "global_f1"
    finally:
        (home / "params.yaml").write_text(params)
        run(home, "dvc", "repro", "calibrate")


def test_a_comment_trains_nothing_and_an_edit_of_the_chosen_loss_trains_and_is_named(home):
    loss, errors = home / "tasks/nn/losses/bce.py", home / "tasks/core/errors.py"
    before = loss.read_text(encoding="utf-8"), errors.read_text(encoding="utf-8")
    try:
        errors.write_text(before[1] + "\n# why\n", encoding="utf-8")
        run(home, "flows", "run", "--until", "finetune")
        assert set(json.loads(run(home, "dvc", "status", "--json").stdout)) == set()
        loss.write_text(before[0].replace("return ", "return 1.0 * ", 1), encoding="utf-8")
        plan = run(home, "flows", "plan").stdout
        assert plan.count("tasks.nn.losses.bce") == 3  # pretrain, out_of_fold, finetune
        run(home, "dvc", "repro", "code")
        assert {"pretrain", "out_of_fold", "finetune"} <= set(json.loads(run(home, "dvc", "status", "--json").stdout))
    finally:
        loss.write_text(before[0], encoding="utf-8")
        errors.write_text(before[1], encoding="utf-8")
        run(home, "dvc", "repro", "code")


def test_the_gate_refuses_a_run_worse_than_the_accepted_one_and_leaves_the_report_that_says_why(home):
    accepted = home / "data/accepted/metrics.json"
    nothing = accepted.read_text(encoding="utf-8")
    try:
        assert "is accepted" in run(home, "tasks", "accept").stdout
        better = json.loads(accepted.read_text(encoding="utf-8"))
        better["test"]["mAP"] += 0.1
        accepted.write_text(json.dumps(better), encoding="utf-8")
        (home / "data/accepted/scored_run.parquet").unlink()
        done = run(home, "flows", "run", check=False)
        assert done.returncode == 1
        assert "gate: mAP" in done.stderr
        assert "worse by 0.1000" in done.stderr
        assert "worse by 0.1000" in run(home, "dvc", "repro", "-f", "-s", "gate").stderr  # an experiment is kept
        page = (home / "data/reports/report.html").read_text(encoding="utf-8")
        assert "0.100" in page[page.index('id="change"') :]
        assert json.loads((home / "data/reports/metrics.json").read_text())["test"]["mAP"] > 0
    finally:
        accepted.write_text(nothing, encoding="utf-8")
        (home / "data/accepted/scored_run.parquet").unlink(missing_ok=True)
        run(home, "dvc", "repro")


def test_finetune_killed_in_the_middle_resumes_to_the_same_bytes(home):
    weights = home / "data/models/finetuned/model.safetensors"
    uninterrupted = weights.read_bytes()
    shutil.rmtree(home / "data/models/finetuned")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TAGWRIGHT_TRACKING": "off"}
    process = subprocess.Popen([sys.executable, "-m", "tasks", "finetune"], cwd=home, env=environment)
    checkpoints = home / "data/models/.checkpoints/finetune"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not any(checkpoints.glob("*")):
        time.sleep(0.05)
    assert any(checkpoints.glob("*")), "no checkpoint was written"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not weights.exists()
    run(home, "tasks", "finetune", TAGWRIGHT_TRACKING="off")
    assert weights.read_bytes() == uninterrupted
    assert not any(checkpoints.glob("*"))


@pytest.mark.parametrize("stage", ["predict", "evaluate"])
def test_a_stage_whose_input_is_missing_says_which_and_what_to_do(home, tmp_path, stage):
    empty = new_home(tmp_path)
    done = run(empty, "tasks", stage, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Run" in done.stderr


BAD_INPUT = [
    ("annotations/instances_train.json", None, "instances_train.json"),
    ("annotations/instances_train.json", '{"images": [', "instances_train.json"),
    (
        "annotations/instances_train.json",
        '{"images": [{"id": 1, "file_name": "a.png"}], "categories": [], '
        '"annotations": [{"id": 1, "image_id": 1, "category_id": 7}]}',
        "7",
    ),
]


@pytest.mark.parametrize(("file", "content", "named"), BAD_INPUT, ids=["missing", "truncated", "unknown category"])
def test_a_bad_annotation_file_is_one_line_and_leaves_nothing_half_written(home, tmp_path, file, content, named):
    other = new_home(tmp_path)
    shutil.copytree(home / "data/raw/embedded", other / "data/raw/embedded")
    path = other / "data/raw/embedded/digits/coco" / file
    path.unlink() if content is None else path.write_text(content)
    done = run(other, "tasks", "ingest@digits_coco", check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert named in done.stderr
    assert not (other / "data/interim/ingested/digits_coco").exists()


def test_an_image_that_is_listed_but_absent_is_quarantined_and_counted(home, tmp_path):
    other = new_home(tmp_path)
    shutil.copytree(home / "data/raw/embedded", other / "data/raw/embedded")
    photos = sorted((other / "data/raw/embedded/digits/coco/images").rglob("*.jpg"))
    photos[0].unlink()
    run(other, "tasks", "ingest@digits_coco")
    images = pq.read_table(other / "data/interim/ingested/digits_coco/images.parquet").to_pylist()
    assert [row["uri"].endswith(photos[0].name) for row in images if row["reason"] == "absent file"] == [True]
    shutil.rmtree(other / "data/raw/embedded/digits/coco/images")
    done = run(other, "tasks", "ingest@digits_coco", check=False)
    assert done.returncode == 1
    assert "none of its" in done.stderr.strip().splitlines()[-1]


def test_an_unknown_key_in_params_is_named_with_the_nearest_known_one(home):
    params = home / "params.yaml"
    text = params.read_text(encoding="utf-8")
    try:
        params.write_text(text.replace("batch_size:", "batchsize:"), encoding="utf-8")
        done = run(home, "tasks", "split", check=False)
    finally:
        params.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "'batch_size'" in done.stderr


def test_a_taxonomy_name_that_the_source_lacks_is_one_line(home):
    taxonomy = home / "data/taxonomy/taxonomy.yaml"
    text = taxonomy.read_text(encoding="utf-8")
    try:
        taxonomy.write_text(text.replace("coco: [seven]", "coco: [sevn]"), encoding="utf-8")
        done = run(home, "tasks", "map_labels", check=False)
    finally:
        taxonomy.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert "'sevn'" in done.stderr
    assert "'seven'" in done.stderr
