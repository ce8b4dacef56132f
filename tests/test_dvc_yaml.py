"""dvc.yaml is the only graph: names coincide, deps cover the imports, editing a late stage leaves early ones alone."""

from __future__ import annotations

import pytest
import yaml
from dvc.repo import Repo

from tasks.params import Params, Training, load_params
from tests.imports import ROOT, stage_names


@pytest.fixture(scope="module")
def stages() -> dict:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def body(stage: dict) -> dict:
    return stage.get("do", stage)


def deps_of(stage: dict) -> list[str]:
    paths = load_params(ROOT / "params.yaml").paths.model_dump(mode="json")
    found = []
    for dep in body(stage)["deps"]:
        for key, value in paths.items():
            dep = dep.replace("${paths." + key + "}", str(value))
        found.append(dep)
    return found


def test_every_stage_is_a_module_and_every_module_a_stage(stages):
    assert sorted(stages) == stage_names()


def test_a_stage_reads_its_own_params_section(stages):
    for name, stage in stages.items():
        listed = {p.split(".")[0] for p in body(stage).get("params", [])}
        if name in Params.model_fields:
            assert name in listed, f"{name}: its own section is not among its params"
        assert listed <= set(Params.model_fields), name


def test_out_of_fold_depends_on_all_that_it_borrows_from_finetune_and_on_nothing_else(stages):
    own = {"epochs", "early_stopping"}  # it has epochs of its own, and no validation images
    borrowed = {f"finetune.{field}" for field in Training.model_fields if field not in own}
    own = {"seed", "model", "out_of_fold", "calibrate.fit_on", "calibrate.cross_fit_below", "finetune.probe"}
    assert set(stages["out_of_fold"]["params"]) == own | borrowed


def test_no_stage_but_the_first_lists_code_and_each_depends_on_its_own_digests(stages):
    for name, stage in stages.items():
        if name != "code":
            own = "ingest@${key}" if name == "ingest" else name
            code = [dep for dep in body(stage)["deps"] if "paths.code" in dep or dep.startswith(("tasks", "flows"))]
            assert code == [f"${{paths.code}}/{own}.json"], name


def test_the_first_stage_reads_all_that_decides_what_is_stale(stages):
    assert stages["code"]["deps"] == ["tasks", "params.yaml"]


def test_deps_name_only_what_exists(stages):
    for name, stage in stages.items():
        for dep in deps_of(stage):
            if dep.startswith(("data/taxonomy", "data/review", "data/detector")):
                assert (ROOT / dep).exists(), f"{name}: {dep}"


def test_the_graph_fits_on_a_few_screens():
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) < 300


def test_the_gate_stands_after_the_report_so_that_a_person_sees_why_it_refuses(stages):
    assert {"${paths.report}", "${paths.evaluation}"} <= set(stages["gate"]["deps"])


def test_the_truth_of_planted_errors_is_read_by_evaluate_alone(stages):
    truth = str(load_params(ROOT / "params.yaml").paths.truth)
    assert {name for name, stage in stages.items() if truth in deps_of(stage)} == {"evaluate"}


def test_every_stage_says_what_it_does_and_what_it_needs(stages):
    for name, stage in stages.items():
        assert body(stage)["desc"], name
        assert body(stage)["meta"]["resource"] in ("cpu", "gpu"), name
        assert body(stage)["cmd"].startswith(f"python -m tasks {name}"), name


def test_every_stage_writes_a_ledger_entry_but_the_first_the_report_and_the_gate_after_it(stages):
    for name, stage in stages.items():
        outs = [o if isinstance(o, str) else next(iter(o)) for o in body(stage)["outs"]]
        assert name in ("code", "report", "gate") or any(o.startswith("${paths.ledger}/" + name) for o in outs), name


def test_a_changed_added_or_removed_picture_is_noticed_and_none_is_copied_into_the_cache(stages, tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    command = "mkdir -p ingested/set ledger && ls raw > ingested/set/names && touch ledger/ingest@set.json"
    paths = {"code": "code", "ingested": "ingested", "ledger": "ledger"}
    params = {"paths": paths, "sources": {"set": {"path": "raw"}}, "ingest": {"max_pixels": 1}}
    ingest = {**stages["ingest"], "do": {**stages["ingest"]["do"], "cmd": command}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"ingest": ingest}}))
    for folder, name in ((raw, "a.png"), (raw, "b.png"), (tmp_path / "code", "ingest@set.json")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()

    def ran() -> bool:
        with Repo() as repo:
            return bool(repo.reproduce())

    assert (ran(), ran()) == (True, False)
    (raw / "a.png").write_text("another picture!")
    assert (ran(), ran()) == (True, False)
    (raw / "c.png").write_text("content of c.png")
    assert (ran(), ran()) == (True, False)
    (raw / "b.png").unlink()
    assert (ran(), ran()) == (True, False)
    cached = {path.read_text() for path in (tmp_path / ".dvc/cache").rglob("*") if path.is_file()}
    assert "a.png\nc.png\n" in cached
    assert not any("content of" in content or "another" in content for content in cached)
