"""What code a stage's result follows from, as one digest a module. Standard library only; nothing is imported.

The sources are parsed, and from `run` of a stage's module every name that it uses is followed through the repository's
own modules: functions, classes, constants. What changes no number is left out (docs/decisions.md says why):

    comments, formatting, docstrings, annotations of functions
    what is said: arguments of `raise`, of a logger and of `warnings.warn`, messages of `assert`
    entries of a registry that nobody chose: a dict in a package's __init__.py, or the catalogue of files, counts with
        those keys alone that the stage's params or its code name
    the text of MOVERS, which carry numbers and make none; what they call still counts
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

MOVERS = (
    "tasks.core.engine",  # maps batches in order: the engine and the number of workers change no result
    "tasks.core.environment",  # what changes only the machine
    "tasks.core.errors",  # messages
    "tasks.core.interrupts",  # signals
    "tasks.core.ledger",  # counts
    "tasks.core.registry",  # calls an entry with the options of params.yaml, which the stage declares
    "tasks.core.workspace",  # finds files; their content is a dependency of the stage, their schema counts by itself
    "tasks.params",  # types; the values are declared
    "tasks.tracking",  # records
    "tasks.training.progress",  # log lines
)
"""Modules and packages whose own text counts for no stage."""

REGISTRIES_ELSEWHERE = (("tasks.core.workspace", "CATALOGUE"), ("tasks.training.augment", "AUGMENTATIONS"))
"""Registries that stand in no __init__.py."""

_SPEAKS = {"debug", "info", "warning", "error", "exception", "critical", "log", "warn"}
_LOGGERS = {"logger", "log", "logging", "warnings"}


class Symbol(NamedTuple):
    """A top-level name of a module; '' is what importing the module executes besides definitions."""

    module: str
    name: str


class Use(NamedTuple):
    """Of some code: what its names may stand for, its string literals, names of attributes, its syntax tree as text."""

    symbols: list[Symbol]
    literals: set[str]
    attributes: set[str]
    text: list[str]


@dataclass(eq=False)
class Module:
    """One parsed source file."""

    name: str
    is_package: bool
    tree: ast.Module
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)  # '' holds the other statements

    def __post_init__(self) -> None:
        for statement in self.tree.body:
            for name in _defined_names(statement):
                self.definitions.setdefault(name, []).append(statement)

    @cached_property
    def imports(self) -> dict[str, Symbol]:
        """Local name -> what it stands for, over the whole file: an import inside a function counts like one above."""
        return dict(_imported(self.tree, self.name, self.is_package))

    @cache  # noqa: B019  (a module lives as long as the one run of the stage `code`)
    def uses(self, name: str, method: str = "") -> Use:
        """What the definition of `name` uses, or that of one method of the class `name`."""
        statements = self.definitions.get(name, [])
        if method:
            statements = [m for c in statements for m in getattr(c, "body", []) if getattr(m, "name", "") == method]
        nodes = [node for statement in statements for node in ast.walk(statement)]
        return Use(
            list(dict.fromkeys(_used(nodes, self))),
            {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)},
            {node.attr for node in nodes if isinstance(node, ast.Attribute)},
            [ast.dump(statement) for statement in statements],
        )

    def methods(self, name: str) -> set[str]:
        """Names of the methods of the class `name`, none where it is no class."""
        bodies = [statement.body for statement in self.definitions.get(name, []) if isinstance(statement, ast.ClassDef)]
        return {part.name for body in bodies for part in body if isinstance(part, ast.FunctionDef)}

    @cached_property
    def sections(self) -> set[tuple[str, ...]]:
        """Sections of params.yaml that it speaks of: ("finetune", "loss") of `params.finetune.loss`."""
        chains = [_dotted(node) for node in ast.walk(self.tree) if isinstance(node, ast.Attribute)]
        return {tuple(chain[1:]) for chain in chains if chain[:1] == ["params"] and chain[1] != "paths"}

    @cached_property
    def reads_own_files(self) -> bool:
        """Whether it looks for files beside itself, e.g. a template."""
        return any(isinstance(node, ast.Name) and node.id == "__file__" for node in ast.walk(self.tree))


class Code:
    """The sources of the packages below `root`, parsed when they are first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """The module of that dotted name, None where it is not ours."""
        if name not in self._modules:
            self._modules[name] = self._parse(name)
        return self._modules[name]

    def _parse(self, name: str) -> Module | None:
        base = self.root.joinpath(*name.split("."))
        for path, is_package in ((base.with_suffix(".py"), False), (base / "__init__.py", True)):
            if path.is_file():
                return _parsed(name, is_package, path.read_text(encoding="utf-8"))
        return None

    def resolve(self, symbol: Symbol) -> Symbol | None:
        """Where a name is defined, through packages that pass it on; None for what is not ours."""
        seen = set()
        while symbol not in seen:
            seen.add(symbol)
            module = self.module(symbol.module)
            if module is None:
                return None
            if not symbol.name or symbol.name in module.definitions:
                return symbol
            if symbol.name in module.imports:
                symbol = module.imports[symbol.name]
            elif self.module(f"{symbol.module}.{symbol.name}"):
                return Symbol(f"{symbol.module}.{symbol.name}", "")
            else:
                return None
        return None


@cache
def _parsed(name: str, is_package: bool, text: str) -> Module:
    return Module(name, is_package, _Silenced().visit(ast.parse(text, name)))


def fingerprints(root: Path, params: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Stage -> module -> hex digest of what the stage reaches of it; `stage@source` for a stage with `foreach`.

    root: of the repository.  params: params.yaml, parsed.
    """
    code = Code(root)
    by_stage = {}
    for path in sorted((root / "tasks/stages").glob("[!_]*.py")):
        if path.stem == "code":
            continue
        stage = code.module(f"tasks.stages.{path.stem}")
        takes_source = any(len(run.args.args) == 2 for run in stage.definitions["run"])
        for source in params["sources"] if takes_source else [None]:
            own = {**params, "sources": params["sources"][source]} if source else params
            chosen = set(_strings(_value(own, section) for section in stage.sections))
            reached = reach(code, Symbol(stage.name, "run"), chosen, set(_strings([params])))
            by_stage[f"{path.stem}@{source}" if source else path.stem] = digests(code, reached)
    return by_stage


@dataclass
class Reached:
    """What was reached, and the strings by which registries are cut down."""

    symbols: dict[Symbol, None] = field(default_factory=dict)  # in the order in which they were reached
    keys: dict[Symbol, set[str]] = field(default_factory=dict)  # registry -> its keys that count


def reach(code: Code, start: Symbol, chosen: set[str], anywhere: set[str]) -> Reached:
    """Every symbol that `start` uses, directly or not.

    chosen: strings in the sections of params.yaml that the stage speaks of.  anywhere: in all of them; they choose
    where the stage's own choose nothing of a registry, e.g. the head of the model that `predict` loads.
    """
    reached = Reached()
    literals: set[str] = set()
    attributes: set[str] = set()
    registries: dict[Symbol, ast.Dict] = {}
    movers: dict[Symbol, set[str]] = {}  # class of a mover -> methods not followed yet
    waiting = [start]
    while waiting:
        while waiting:
            symbol = code.resolve(waiting.pop())
            if symbol is None or symbol in reached.symbols:
                continue
            reached.symbols[symbol] = None
            module = code.module(symbol.module)
            waiting.append(Symbol(symbol.module, ""))
            if registry := _registry(module, symbol):
                registries[symbol] = registry
            elif _is_mover(symbol.module) and module.methods(symbol.name):
                movers[symbol] = module.methods(symbol.name)
            else:
                use = module.uses(symbol.name)
                waiting += use.symbols
                literals |= use.literals
                attributes |= use.attributes
        # Only now is it known which entries and methods are named; what these use may name more.
        for symbol, registry in registries.items():
            names = {key.value for key in registry.keys}
            wanted = names & (chosen | literals) or names & anywhere or names  # what nobody seems to choose counts
            for key, value in zip(registry.keys, registry.values, strict=True):
                if key.value in wanted and key.value not in reached.keys.setdefault(symbol, set()):
                    reached.keys[symbol].add(key.value)
                    nodes = list(ast.walk(value))
                    literals.update(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
                    waiting += _used(nodes, code.module(symbol.module))
        for symbol, methods in movers.items():
            for method in sorted(methods & (attributes | {"__init__"})):
                methods.discard(method)
                use = code.module(symbol.module).uses(symbol.name, method)
                waiting += use.symbols
                literals |= use.literals
                attributes |= use.attributes
    return reached


def digests(code: Code, reached: Reached) -> dict[str, str]:
    """Module -> digest of those of its parts that were reached."""
    parts: dict[str, list[str]] = {}
    for symbol in sorted(reached.symbols):
        if _is_mover(symbol.module) and symbol not in reached.keys:
            continue
        module = code.module(symbol.module)
        if symbol in reached.keys:
            registry = _registry(module, symbol)
            pairs = zip(registry.keys, registry.values, strict=True)
            text = [f"{k.value}: {ast.dump(v)}" for k, v in pairs if k.value in reached.keys[symbol]]
        else:
            text = list(module.uses(symbol.name).text)
        if symbol.name == "" and module.reads_own_files:
            text += [hashlib.sha256(path.read_bytes()).hexdigest() for path in _files_beside(code.root, module)]
        if text:
            parts.setdefault(symbol.module, []).append("\n".join([symbol.name, *text]))
    return {
        module: hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] for module, texts in sorted(parts.items())
    }


def _is_mover(module: str) -> bool:
    return any(module == mover or module.startswith(f"{mover}.") for mover in MOVERS)


def _files_beside(root: Path, module: Module) -> list[Path]:
    folder = root.joinpath(*module.name.split("."))
    folder = folder if module.is_package else folder.parent
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc"))


def _registry(module: Module, symbol: Symbol) -> ast.Dict | None:
    """The dict of a registry: upper case, string keys, in a package's __init__.py or among REGISTRIES_ELSEWHERE."""
    if symbol.name.upper() != symbol.name or not (module.is_package or symbol in REGISTRIES_ELSEWHERE):
        return None
    for statement in module.definitions.get(symbol.name, []):
        value = getattr(statement, "value", None)
        if isinstance(value, ast.Dict) and all(isinstance(key, ast.Constant) for key in value.keys):
            return value
    return None


# ---------------------------------------------------------------- reading a syntax tree


def _defined_names(statement: ast.stmt) -> list[str]:
    """Top-level names that a statement binds; [''] when it binds none but does something, [] for an import."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, (ast.Import, ast.ImportFrom)) or _is_type_checking(statement):
        return []
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    names = [node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name)]
    return names or [""]


def _is_type_checking(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test)


def _imported(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[str, Symbol]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                # `import a.b` binds `a`; the rest of the path is an attribute.
                yield (
                    (alias.asname, Symbol(alias.name, ""))
                    if alias.asname
                    else (
                        alias.name.split(".")[0],
                        Symbol(alias.name.split(".")[0], ""),
                    )
                )
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                yield alias.asname or alias.name, Symbol(base, alias.name)


def _used(nodes: Iterable[ast.AST], module: Module) -> Iterator[Symbol]:
    """What these nodes may stand for: names of the module, and attributes of modules that it imports."""
    for part in nodes:
        if isinstance(part, ast.Name):
            if part.id in module.definitions:
                yield Symbol(module.name, part.id)
            elif part.id in module.imports:
                yield module.imports[part.id]
        elif isinstance(part, ast.Attribute):
            path = _dotted(part)
            if path and path[0] in module.imports:
                base = module.imports[path[0]]
                dotted = [base.module, *([base.name] if base.name else []), *path[1:]]
                for depth in range(1, len(dotted)):
                    yield Symbol(".".join(dotted[:depth]), dotted[depth])


def _dotted(node: ast.Attribute) -> list[str]:
    """['a', 'b', 'c'] of a.b.c; [] where the chain does not begin with a name."""
    path: list[str] = []
    current: ast.AST = node
    while isinstance(current, ast.Attribute):
        path.append(current.attr)
        current = current.value
    return [current.id, *reversed(path)] if isinstance(current, ast.Name) else []


def _value(params: Mapping[str, Any], section: Iterable[str]) -> Any:
    """What stands in a section, as deep as it goes: the rest of the path may be a method."""
    value: Any = params
    for part in section:
        if not isinstance(value, Mapping) or part not in value:
            return value if value is not params else None
        value = value[part]
    return value


def _strings(values: Iterable[Any]) -> Iterator[str]:
    """All strings among nested values; keys of mappings are none."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _strings(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _strings(value)


class _Silenced(ast.NodeTransformer):
    """The tree without what is only said."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # all that it did was to speak
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Docstrings, strings below a constant, calls of a logger."""
        value = node.value
        if isinstance(value, ast.Constant):
            return None
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _SPEAKS:
            owner = value.func.value
            if isinstance(owner, ast.Name) and owner.id in _LOGGERS:
                return None
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Annotations of a function are not executed; those of a class are its fields and stay."""
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """The class of an error may steer what happens next, its message does not."""
        if isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        node.cause = None
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)
