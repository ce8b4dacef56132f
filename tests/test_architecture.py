"""The house: who may import whom, where heavy imports live, and what stands at the top level."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from tests.imports import ROOT, imports, module_name, sources

DOMAIN = (
    "sources",
    "labels",
    "images",
    "sampling",
    "nn",
    "training",
    "metrics",
    "thresholds",
    "review",
    "report",
    "export",
)
ALLOWED_BETWEEN = {
    "training": {"nn", "sampling"},
    "thresholds": {"metrics"},
    "export": {"nn"},
    "report": {"metrics"},
}
CORE = {
    "tasks",
    "tasks.core.tables",
    "tasks.core.states",
    "tasks.core.ledger",
    "tasks.core.errors",
    "tasks.core.engine",
    "tasks.nn.cooccurrence",
}
ONLY_PLACE = {  # heavy or foreign package -> the one place that may import it
    "timm": "tasks.nn.backbone",
    "mlflow": "tasks.tracking",
    "fiftyone": "tasks.review",
}


@pytest.mark.parametrize("package", DOMAIN)
def test_domain_packages_import_only_the_core_and_what_the_design_allows(package):
    allowed = {f"tasks.{p}" for p in {package, *ALLOWED_BETWEEN.get(package, ())}}
    for path in sources(f"tasks/{package}"):
        ours = {n for n in imports(path) if n.split(".")[0] in ("tasks", "flows")}
        strangers = {n for n in ours if n not in CORE and not any(n == a or n.startswith(a + ".") for a in allowed)}
        strangers -= {n for n in strangers if any(n.startswith(c + ".") for c in CORE - {"tasks"})}
        assert not strangers, f"{module_name(path)} imports {sorted(strangers)}"


def test_tasks_never_import_prefect_dvc_or_flows():
    for path in sources("tasks"):
        roots = {n.split(".")[0] for n in imports(path)}
        assert not roots & {"prefect", "dvc", "flows"}, module_name(path)


def test_flows_import_only_params_tracking_and_errors():
    for path in sources("flows"):
        ours = {n for n in imports(path) if n.split(".")[0] == "tasks"} - {"tasks"}
        strangers = {n for n in ours if not n.startswith(("tasks.params", "tasks.tracking", "tasks.core.errors"))}
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
    }  # fmt: skip
    assert {t for t in top if not t.startswith(".")} <= allowed


def test_data_holds_no_python():
    assert not list((ROOT / "data").rglob("*.py"))
