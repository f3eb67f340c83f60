"""The house keeps its shape: who may import whom, no circles, catalogues, no private parts of libraries."""

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("merge", "evals", "search", "experiments")
AT_MOST = {"merge": 22, "evals": 16, "search": 16, "experiments": 20}
"""Python files at the top of a room."""

KNOWS = {"experiments": {"search", "merge", "evals"}, "search": {"merge", "evals"}, "merge": set(), "evals": set()}
"""Room -> other rooms of which any package may be imported."""

ALLOWED: dict[str, set[str]] = {
    "merge": {"merge.door"},
    "merge.architecture": {"merge.errors"},
    "merge.checkpoint": {"merge.documents", "merge.errors", "merge.recipe"},
    "merge.door": {
        "merge.errors",
        "merge.live_model",
        "merge.merger",
        "merge.multi_stage",
        "merge.planning",
        "merge.recipe",
    },
    "merge.execution": {
        "merge.architecture",
        "merge.checkpoint",
        "merge.errors",
        "merge.kernels",
        "merge.memory",
        "merge.method",
        "merge.native",
        "merge.planning",
        "merge.recipe",
    },
    "merge.kernels": {"merge.memory", "merge.native"},
    "merge.live_model": {
        "merge.checkpoint",
        "merge.errors",
        "merge.execution",
        "merge.memory",
        "merge.merger",
        "merge.planning",
        "merge.recipe",
    },
    "merge.merger": {
        "merge.checkpoint",
        "merge.errors",
        "merge.execution",
        "merge.kernels",
        "merge.memory",
        "merge.native",
        "merge.output",
        "merge.planning",
        "merge.recipe",
    },
    "merge.method": {"merge.kernels"},
    "merge.methods": {"merge.documents", "merge.errors", "merge.kernels", "merge.method", "merge.native"},
    "merge.multi_stage": {"merge.errors", "merge.merger", "merge.output", "merge.recipe"},
    "merge.native": {"merge.user_cache"},
    "merge.output": {"merge.checkpoint", "merge.errors", "merge.methods", "merge.planning", "merge.recipe"},
    "merge.planning": {
        "merge.architecture",
        "merge.checkpoint",
        "merge.errors",
        "merge.method",
        "merge.methods",
        "merge.recipe",
    },
    "merge.recipe": {"merge.documents", "merge.errors", "merge.method", "merge.methods", "merge.user_cache"},
    "merge.value_gradients": {
        "merge.errors",
        "merge.execution",
        "merge.memory",
        "merge.merger",
        "merge.planning",
        "merge.recipe",
    },
    "evals": {"evals.door"},
    "evals.door": {"evals.cache", "evals.errors", "evals.lm_eval_files", "evals.model_scorer"},
    "evals.engines": {"evals.engines.common", "evals.engines.live", "evals.errors", "evals.prompts"},
    "evals.engines.live": {"evals.engines.common", "evals.errors", "evals.prompts", "evals.scores"},
    "evals.evaluation": {"evals.cache", "evals.errors", "evals.prompts", "evals.scores", "evals.tasks"},
    "evals.lm_eval_files": {"evals.evaluation", "evals.model_scorer", "evals.scores", "evals.suites", "evals.tasks"},
    "evals.model_scorer": {
        "evals.cache",
        "evals.engines",
        "evals.errors",
        "evals.evaluation",
        "evals.scores",
        "evals.suites",
        "evals.tasks",
    },
    "evals.prompts": {"evals.errors", "evals.tasks"},
    "evals.scores": {"evals.tasks"},
    "evals.suites": {"evals.errors", "evals.scores", "evals.tasks"},
    "evals.tasks": {"evals.cache", "evals.errors"},
    "search": {"search.door", "search.results"},
    "search.door": {
        "search.errors",
        "search.interrupts",
        "search.loop",
        "search.results",
        "search.storage",
        "search.study",
    },
    "search.loop": {
        "search.errors",
        "search.hardware",
        "search.interrupts",
        "search.objective",
        "search.proposals",
        "search.results",
        "search.samplers",
        "search.scoring",
        "search.space",
        "search.storage",
        "search.study",
        "search.verdict",
        "search.workers",
    },
    "search.objective": {"search.errors"},
    "search.proposals": {"search.errors", "search.samplers", "search.space", "search.storage", "search.study"},
    "search.results": {"search.objective", "search.space", "search.study"},
    "search.samplers": {"search.errors", "search.space"},
    "search.scoring": {
        "search.errors",
        "search.hardware",
        "search.objective",
        "search.results",
        "search.storage",
        "search.study",
    },
    "search.space": {"search.errors"},
    "search.storage": {"search.errors", "search.interrupts", "search.results", "search.samplers", "search.study"},
    "search.study": {"search.errors", "search.objective", "search.samplers", "search.space"},
    "search.verdict": {"search.objective", "search.proposals", "search.results"},
    "search.workers": {"search.errors", "search.interrupts", "search.results"},
    "experiments": {"experiments.running"},
    "experiments.__main__": {"experiments.cli", "experiments.package_guard"},
    "experiments.bench": {
        "experiments.atomic_files",
        "experiments.bench.support",
        "experiments.evaluate",
        "experiments.models_roots",
        "experiments.running",
        "experiments.study_folder",
    },
    "experiments.cli": {"experiments.commands"},
    "experiments.commands": {
        "experiments.atomic_files",
        "experiments.commands.support",
        "experiments.demo",
        "experiments.devices",
        "experiments.duel",
        "experiments.errors",
        "experiments.evaluate",
        "experiments.exit_codes",
        "experiments.release",
        "experiments.report",
        "experiments.reproduce",
        "experiments.running",
    },
    "experiments.commands.support": {"experiments.errors"},
    "experiments.demo": {
        "experiments.atomic_files",
        "experiments.devices",
        "experiments.errors",
        "experiments.exit_codes",
        "experiments.running",
    },
    "experiments.devices": {"experiments.errors"},
    "experiments.duel": {
        "experiments.atomic_files",
        "experiments.errors",
        "experiments.models_roots",
        "experiments.number_format",
        "experiments.report",
        "experiments.running",
        "experiments.score_tables",
        "experiments.study_folder",
    },
    "experiments.evaluate": {
        "experiments.atomic_files",
        "experiments.errors",
        "experiments.models_roots",
        "experiments.score_tables",
    },
    "experiments.exit_codes": {"experiments.errors"},
    "experiments.models_roots": {"experiments.errors"},
    "experiments.reference": {"experiments.cli", "experiments.running"},
    "experiments.release": {
        "experiments.atomic_files",
        "experiments.devices",
        "experiments.errors",
        "experiments.models_roots",
        "experiments.score_tables",
        "experiments.study_folder",
    },
    "experiments.report": {
        "experiments.atomic_files",
        "experiments.number_format",
        "experiments.score_tables",
        "experiments.study_folder",
    },
    "experiments.reproduce": {
        "experiments.atomic_files",
        "experiments.errors",
        "experiments.evaluate",
        "experiments.models_roots",
        "experiments.reproduce.card",
    },
    "experiments.reproduce.card": {"experiments.errors"},
    "experiments.running": {
        "experiments.atomic_files",
        "experiments.devices",
        "experiments.errors",
        "experiments.models_roots",
        "experiments.report",
        "experiments.study_folder",
        "experiments.tracking",
    },
    "experiments.score_tables": {"experiments.number_format"},
    "experiments.study_folder": {
        "experiments.atomic_files",
        "experiments.errors",
        "experiments.number_format",
        "experiments.score_tables",
    },
    "experiments.tracking": {"experiments.atomic_files", "experiments.errors"},
}
"""Package -> packages of its own room that it may import; a file at the top of a room is a package of its own."""

REGISTRIES = {"merge/methods", "search/samplers", "evals/suites"}
"""Packages whose folder is the list: a new file is found by itself."""

FUSED = {"evals/engines/live/fused_attention.py", "evals/engines/live/onednn_linear.py"}
"""Files that may call private operations of torch, each beside the plain formula that it is tested against."""


def sources() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return place(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module_of(path): path for path in sources()}
PACKAGES = sorted(path.parent for path in sources() if path.name == "__init__.py")


def package_of(module: str) -> str:
    """Return the unit that the table speaks of: the folder of a module, or the module itself at the top of a room."""
    path = MODULES[module]
    if path.name == "__init__.py" or len(path.relative_to(ROOT).parts) == 2:
        return module
    return module.rpartition(".")[0]


def imports_of(module: str) -> Iterator[str]:
    """Go through our own modules that a module imports, wherever in it the import stands."""
    for node in ast.walk(tree_of(MODULES[module])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield from (one for one in (name if name in MODULES else node.module,) if one in MODULES)


def module_graph() -> dict[str, set[str]]:
    return {module: {name for name in imports_of(module) if name != module} for module in MODULES}


def package_graph() -> dict[str, dict[str, tuple[str, str]]]:
    """Return, for each package, the packages it imports and one pair of files that does so."""
    graph: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for module, names in module_graph().items():
        for name in sorted(names):
            here, there = package_of(module), package_of(name)
            if here != there:
                graph[here].setdefault(there, (place(MODULES[module]), place(MODULES[name])))
    return graph


def circles(graph: Mapping[str, Sequence[str] | set[str] | Mapping[str, object]]) -> list[list[str]]:
    """Return the strongly connected groups of more than one node."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = list(graph.get(start, ()))
        while ahead:
            node = ahead.pop()
            if node not in seen:
                seen.add(node)
                ahead.extend(graph.get(node, ()))
        return seen

    reached = {node: reach(node) for node in graph}
    inside = [node for node in graph if node in reached[node]]
    groups = {
        tuple(sorted(other for other in inside if other in reached[node] and node in reached[other])) for node in inside
    }
    return [list(group) for group in sorted(groups)]


def test_circles_are_noticed() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_two_modules_import_each_other() -> None:
    assert not circles(module_graph())


def test_no_two_packages_import_each_other() -> None:
    assert not circles(package_graph())


def room_of(package: str) -> str:
    return package.partition(".")[0]


def test_imports_are_in_the_table() -> None:
    wrong = []
    for package, imported in package_graph().items():
        allowed, rooms = ALLOWED.get(package, set()), KNOWS[room_of(package)]
        for other, (here, there) in imported.items():
            if other not in allowed and room_of(other) not in rooms:
                rule = ", ".join(sorted(allowed | rooms)) or "nothing"
                wrong.append(f"{here} imports {there}: {package} may import {rule}")
    assert not wrong, "\n".join(wrong)


def test_the_table_holds_nothing_that_is_gone() -> None:
    units = {package_of(module) for module in MODULES}
    named = set(ALLOWED) | {other for others in ALLOWED.values() for other in others}
    assert named <= units


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"experiments.__main__"}))
def test_every_module_can_be_imported(module: str) -> None:
    importlib.import_module(module)


def test_no_module_hides_behind_a_package() -> None:
    assert not [place(path) for path in sources() if path.with_suffix("").is_dir()]


@pytest.mark.parametrize("room", ROOMS)
def test_the_top_of_a_room_is_short(room: str) -> None:
    assert len(list((ROOT / room).glob("*.py"))) - 1 <= AT_MOST[room]


@pytest.mark.parametrize("package", [p for p in PACKAGES if place(p) not in REGISTRIES], ids=place)
def test_a_package_opens_with_its_catalogue(package: Path) -> None:
    told = ast.get_docstring(tree_of(package / "__init__.py")) or ""
    names = {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    names |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert not [name for name in sorted(names) if name.removesuffix(".py") not in told.replace("`", "")], (
        "not in the catalogue"
    )


@pytest.mark.parametrize("package", [p for p in PACKAGES if place(p) not in REGISTRIES], ids=place)
def test_a_catalogue_defines_nothing(package: Path) -> None:
    doors = {"__getattr__", "__dir__"} if place(package) in ROOMS else set()
    body = tree_of(package / "__init__.py").body
    extra = [
        node
        for node in body
        if not isinstance(node, ast.Expr | ast.If | ast.Import | ast.ImportFrom)
        and not (isinstance(node, ast.FunctionDef) and node.name in doors)
        and not (isinstance(node, ast.Assign | ast.AnnAssign) and place(package) in ROOMS)
    ]
    assert not extra


def own_classes() -> set[str]:
    return {node.name for path in sources() for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)}


def private_uses(tree: ast.Module, ours: set[str]) -> Iterator[tuple[int, str]]:
    """Go through uses of names that a library keeps to itself, and surgery on objects: line, text."""
    typed = {
        node.arg: ast.unparse(node.annotation).strip("\"'")
        for node in ast.walk(tree)
        if isinstance(node, ast.arg) and node.annotation is not None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] not in ROOMS:
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
            if any(part.startswith("_") and not part.startswith("__") for part in parts):
                yield node.lineno, f"from {node.module} import ..."
        if not isinstance(node, ast.Attribute):
            continue
        if node.attr == "__dict__":
            yield node.lineno, ast.unparse(node)
        if not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        owner = ast.unparse(node.value)
        if owner in ("self", "cls", "os", "sys") or owner in ours or typed.get(owner) in ours | {"Self"}:
            continue
        yield node.lineno, ast.unparse(node)


def foreign_assignments(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Go through assignments to an attribute of an imported module."""
    modules = {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            first = node.value
            while isinstance(first, ast.Attribute):
                first = first.value
            if isinstance(first, ast.Name) and first.id in modules:
                yield node.lineno, ast.unparse(node)


def test_private_uses_are_noticed() -> None:
    tree = ast.parse("import torch\ndef f(x, y: 'Ours'):\n  x._y\n  y._z\n  x.__dict__\n  torch.backends.a = 1\n")
    assert [text for _, text in private_uses(tree, {"Ours"})] == ["x._y", "x.__dict__"]
    assert [text for _, text in foreign_assignments(tree)] == ["torch.backends.a"]


@pytest.mark.parametrize("room", ROOMS)
def test_no_private_name_of_a_library(room: str) -> None:
    ours = own_classes()
    found = [
        f"{place(path)}:{line}: {text}"
        for path in sources()
        if place(path).startswith(f"{room}/") and place(path) not in FUSED
        for line, text in (*private_uses(tree_of(path), ours), *foreign_assignments(tree_of(path)))
    ]
    assert not found, "\n".join(found)
