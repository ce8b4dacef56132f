"""Reading imports from source text, for the tests that hold the house together. Nothing is imported."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def module_path(module: str) -> Path | None:
    """File of a module of this repository, None for any other."""
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path, *, at_module_level: bool = False, packages_passed_through: bool = True) -> frozenset[str]:
    """Full names of everything `path` imports; with `at_module_level`, only what importing the module executes.

    packages_passed_through: whether `from package import module` counts as an import of `package` too.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if at_module_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if at_module_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative
                package = module_name(path).split(".")
                if path.name != "__init__.py":
                    package = package[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            modules = {f"{base}.{alias.name}" for alias in node.names if module_path(f"{base}.{alias.name}")}
            found |= modules
            if packages_passed_through or len(modules) < len(node.names):
                found.add(base)
        stack.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def reachable(path: Path) -> set[Path]:
    """`path` and every file of this repository that it imports, directly or not, package __init__ files included."""
    seen: set[Path] = set()
    stack = [path]
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        for name in imports(current):
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                found = module_path(".".join(parts[:depth]))
                if found:
                    stack.append(found)
    return seen


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def stage_names() -> list[str]:
    """Every stage: the modules of tasks/stages."""
    return sorted(path.stem for path in (ROOT / "tasks/stages").glob("[!_]*.py"))


def circles(package: str) -> list[list[str]]:
    """Chains of modules that import each other when they are imported."""
    graph = {module_name(path): dependencies(path) for path in sources(package)}
    found = []
    while True:
        try:
            list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = error.args[1]
            found.append(circle)
            graph[circle[1]] = graph[circle[1]] - {circle[0]}
            continue
        return found


def dependencies(path: Path) -> set[str]:
    """Our modules that importing `path` needs; of a package from which it takes modules alone, those modules."""
    return {
        name
        for name in ours(imports(path, at_module_level=True, packages_passed_through=False))
        if name != module_name(path)
    }


def ours(names: frozenset[str]) -> set[str]:
    """Modules of this repository among `names`."""
    return {name for name in names if name.split(".")[0] in ("tasks", "flows") and module_path(name)}
