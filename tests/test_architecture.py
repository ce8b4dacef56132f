"""The house: who may import whom, where heavy imports live, and what stands at the top level."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import tasks
from tests.imports import ROOT, circles, imports, module_name, ours, sources, stage_names

ROOMS = {  # domain package -> the other domain packages that it may import
    "sources": set(),
    "demo": set(),
    "images": set(),
    "taxonomy": set(),
    "mapping": {"taxonomy"},
    "cleaning": {"taxonomy"},
    "review": {"taxonomy"},
    "sampling": set(),
    "nn": set(),
    "training": {"nn", "sampling", "images"},
    "metrics": set(),
    "thresholds": {"metrics"},
    "evaluation": {"metrics"},
    "report": {"evaluation"},
    "export": {"nn"},
    "tracking": set(),
}
ONLY_PLACE = {  # heavy or foreign package -> the one place that may import it
    "timm": "tasks.nn.backbone",
    "mlflow": "tasks.tracking",
    "fiftyone": "tasks.review.screen",
}
FLOWS_MAY_IMPORT = (
    "tasks.params",
    "tasks.tracking",
    "tasks.core.environment",
    "tasks.core.errors",
    "tasks.core.error_lines",
    "tasks.core.fingerprint",
    "tasks.core.checked",
    "tasks.core.edits",
    "tasks.core.formatting",
    "tasks.core.training_speed",
)

NAMED_LIKE_THEIR_ROOM = {"export", "report", "review", "predict"}
"""Stages and commands whose name is also that of a package, or of each other, by design."""


def package_of(module: str) -> str:
    """`nn` of `tasks.nn.heads.gat`."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_core_and_the_rooms_below_it(room):
    for path in sources(f"tasks/{room}"):
        others = {package_of(name) for name in ours(imports(path)) if name.startswith("tasks.")}
        strangers = others - {"", "core", room} - ROOMS[room]
        assert not strangers, f"{module_name(path)} imports {sorted(strangers)}"


def test_the_core_imports_only_itself_and_the_types_of_params():
    for path in sources("tasks/core"):
        others = {package_of(name) for name in ours(imports(path)) if name.startswith("tasks.")}
        assert others <= {"", "core", "params"}, module_name(path)


def test_every_package_is_a_room_the_core_a_stage_or_a_command():
    packages = {path.name for path in (ROOT / "tasks").iterdir() if (path / "__init__.py").exists()}
    assert packages == {*ROOMS, "core", "stages", "commands"}


def test_no_two_modules_import_each_other():
    assert circles("tasks") + circles("flows") == []


def test_directly_under_tasks_stand_only_the_entry_and_the_params():
    assert {path.name for path in (ROOT / "tasks").glob("*.py")} == {"__init__.py", "__main__.py", "params.py"}


def test_a_stage_is_short_and_has_no_private_helper():
    for path in (ROOT / "tasks/stages").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 80, path.name
        assert path.name == "__init__.py" or not path.name.startswith("_"), path.name
        assert "\ndef _" not in text, path.name


def test_the_entry_is_a_list_of_commands_that_knows_no_stage_by_name():
    text = (ROOT / "tasks/__main__.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 100
    code = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    assert not code & set(stage_names()) - NAMED_LIKE_THEIR_ROOM


def test_no_two_modules_bear_one_name():
    names = Counter(path.stem for path in sources("tasks") if path.stem not in ("__init__", "__main__", "base"))
    names += Counter(path.name for path in (ROOT / "tasks").rglob("*") if (path / "__init__.py").exists())
    twice = {name for name, count in names.items() if count > 1}
    # A room may have a module of its own name, and a stage the name of a command.
    assert {name for name in twice if not (ROOT / f"tasks/{name}").is_dir()} <= NAMED_LIKE_THEIR_ROOM, twice


def test_tasks_never_import_prefect_dvc_or_flows():
    for path in sources("tasks"):
        roots = {n.split(".")[0] for n in imports(path)}
        assert not roots & {"prefect", "dvc", "flows"}, module_name(path)


def test_flows_import_only_params_their_check_tracking_errors_and_fingerprints():
    for path in sources("flows"):
        mine = {n for n in imports(path) if n.split(".")[0] == "tasks"} - {"tasks", "tasks.core"}
        strangers = {n for n in mine if not n.startswith(FLOWS_MAY_IMPORT)}
        assert not strangers, f"{module_name(path)} imports {sorted(strangers)}"
        assert not {n.split(".")[0] for n in imports(path)} & {"torch", "timm"}, module_name(path)


@pytest.mark.parametrize(("package", "place"), ONLY_PLACE.items())
def test_a_heavy_package_is_imported_in_one_place(package, place):
    users = {
        module_name(p) for p in sources("tasks") + sources("flows") if package in {n.split(".")[0] for n in imports(p)}
    }
    assert all(u == place or u.startswith(place + ".") for u in users), users


def test_the_graph_is_pure_of_prefect():
    assert "prefect" not in {n.split(".")[0] for n in imports(ROOT / "flows/graph.py")}


def test_no_module_bears_the_name_of_a_dependency():
    names = {p.stem for p in sources("tasks") + sources("flows")}
    assert (
        not names
        & set(importlib.metadata.packages_distributions()) - {"tasks", "flows", "__init__", "__main__"}
        & {"prefect", "dvc", "mlflow", "torch", "timm", "pandas", "pyarrow", "pycocotools", "fiftyone", "polars", "ray"}
    )


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['tasks', '--help']\n"
        "import tasks.__main__ as m\n"
        "try: m.main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'fiftyone', 'polars', 'pandas', 'sklearn', 'timm', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_training_needs_neither_dvc_prefect_mlflow_fiftyone_nor_pycocotools():
    code = (
        "import sys\n"
        "for name in ('dvc', 'prefect', 'mlflow', 'fiftyone', 'pycocotools'): sys.modules[name] = None\n"
        "import tasks.stages.finetune, tasks.stages.pretrain, tasks.stages.out_of_fold, tasks.stages.predict\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_the_package_named_tasks_is_ours():
    rivals = {d for d in importlib.metadata.packages_distributions().get("tasks", []) if d != "tagwright"}
    assert not rivals, f"{rivals} also owns a top-level package `tasks`: use a clean environment"
    assert Path(tasks.__file__).is_relative_to(ROOT)


def test_the_top_level_holds_only_what_the_design_names():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    top = {name.split("/")[0] for name in listed if name}
    allowed = {
        "flows", "tasks", "data", "params.yaml", "dvc.yaml", "tests", "pyproject.toml", "README.md",
        "dvc.lock", "requirements.lock", "Makefile", "prefect.yaml", "LICENSE", "recipes", "docs",
        "CONTRIBUTING.md", "CHANGELOG.md", "mkdocs.yml",
    }  # fmt: skip
    assert {t for t in top if not t.startswith(".")} <= allowed


def test_data_holds_no_python():
    assert not list((ROOT / "data").rglob("*.py"))
