"""The rooms know each other in one direction, heavy libraries stay behind doors, the checkout stays portable."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"experiments": {"search", "merge", "evals"}, "search": {"merge", "evals"}, "merge": set(), "evals": set()}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
HEAVY = {"torch", "mlflow", "lm_eval", "transformers", "optuna", "pandas", "scipy"}


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Go through the absolute imports of a module, wherever in it they stand: line, dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.lineno, node.module


def bound(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Go through the names that functions, arguments, imports and variables bind; not a class's own fields."""
    fields = {
        id(target)
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for statement in owner.body
        for target in (
            statement.targets
            if isinstance(statement, ast.Assign)
            else [statement.target]
            if isinstance(statement, ast.AnnAssign)
            else [statement]
        )
    }
    for node in ast.walk(tree):
        if id(node) in fields:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.ImportFrom | ast.Import):
            yield from ((node.lineno, alias.asname or alias.name) for alias in node.names)


def test_rooms_are_found() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_imports_go_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    allowed = {room} | ROOMS[room]
    wrong = [(line, name) for line, name in imported(path) if name.split(".")[0] in set(ROOMS) - allowed]
    assert not wrong, f"{place(path)}: {room} may import {sorted(allowed)} only"


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_heavy_libraries_have_one_door(path: Path) -> None:
    names = {name.split(".")[0] for _, name in imported(path)}
    assert "lm_eval" not in names or path.is_relative_to(ROOT / "evals"), "only evals imports lm_eval"
    assert "mlflow" not in names or path.is_relative_to(ROOT / "experiments" / "tracking"), "only tracking does"


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_no_name_hides_a_room(path: Path) -> None:
    if place(path) == "merge/__init__.py":
        return  # the door merge.merge has the room's name
    hidden = [(line, name) for line, name in bound(ast.parse(path.read_text(encoding="utf-8"))) if name in ROOMS]
    assert not hidden, f"{place(path)}: a function, argument or variable is named like a room"


def test_hiding_is_noticed() -> None:
    tree = ast.parse(
        "def f(search):\n  merge = 1\nfrom x import evals\nclass C:\n  search: int\n  def merge(self): pass\n"
    )
    assert sorted(name for _, name in bound(tree) if name in ROOMS) == ["evals", "merge", "search"]


@pytest.mark.parametrize("room", ROOMS)
def test_entering_a_room_is_light(room: str) -> None:
    """Counts imports: a room's doors are opened when they are used."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {room}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    names = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert room in names, "importtime's output was not understood"
    assert not names & (HEAVY | {"typer", "rich", "pydantic", "yaml", "numpy"})


def test_help_is_quick() -> None:
    """Counts imports, not seconds: what takes long is not imported for ``--help``."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "experiments", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "search" in done.stdout
    names = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "typer" in names, "importtime's output was not understood"
    assert not names & HEAVY


def tracked() -> list[Path]:
    """Return the files of the checkout that git tracks."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_path_of_one_machine_and_nothing_left_to_do() -> None:
    machine = re.compile(r"(?<![\w.])/(?:work|root|tmp|home/\w+)/(?![*{])")
    unfinished = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content or path.suffix == ".jsonl":
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), start=1):
            if machine.search(line) or unfinished.search(line):
                found.append(f"{place(path)}:{number}: {line.strip()[:100]}")
    assert not found
