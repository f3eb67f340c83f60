"""README, CONTRIBUTING and docs/: every link, file, module, command and make target that they name is there."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from experiments.cli import app
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?<![\w./-])(?:merge|evals|search|experiments|docs|tests)/[\w./{},*-]*")
MODULE = re.compile(r"-m ((?:merge|evals|search|experiments)[\w.]*)|\b(experiments\.bench\.\w+)")
COMMAND = re.compile(r"(?<![\w./-])mergesearch (?:--[a-z]+|([a-z][a-z-]+))")
MAKE = re.compile(r"^(?:\$ )?make(?: PYTHON=\S+)? ([a-z]+)$")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code_of(page: Path) -> Iterator[str]:
    """Go through the lines of a page's code blocks and its spans of code."""
    for span in CODE.findall(text_of(page)):
        yield from span.strip("`").splitlines()


def anchors(page: Path) -> set[str]:
    """Return the names by which a page's headings are linked, as GitHub makes them."""
    titles = (re.sub(r"[^\w\- ]", "", title.lower()) for title in HEADING.findall(text_of(page)))
    return {title.strip().replace(" ", "-") for title in titles}


def is_there(name: str) -> bool:
    """Tell whether a file or folder of the checkout is named rightly; ``*`` and ``{a,b}`` stand for several."""
    stem, braces, tail = name.partition("{")
    if braces:
        inner, _, tail = tail.partition("}")
        return all(is_there(f"{stem}{one}{tail}") for one in inner.split(","))
    name = name.rstrip(".,")
    return any(ROOT.glob(name)) if "*" in name else (ROOT / name).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in LINK.findall(text_of(page)):
        name, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = page if not name else (page.parent / name).resolve()
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_in_code_is_there(page: Path) -> None:
    lines = list(code_of(page))
    assert not [name for line in lines for name in FILE.findall(line) if not is_there(name)]
    modules = ["".join(names) for line in lines for names in MODULE.findall(line)]
    assert not [name for name in modules if find_spec(name) is None]
    assert not [name for line in lines for name in COMMAND.findall(line) if name and name not in COMMANDS]
    assert not [target for line in lines for target in MAKE.findall(line) if target not in TARGETS]


def test_what_is_not_there_is_noticed() -> None:
    assert is_there("merge/methods/{ties,slerp}.py")
    assert is_there("evals/mini/mini_mmlu_*.yaml")
    assert not is_there("merge/methods/{ties,nobody}.py")
    assert not is_there("experiments/bench/nothing_*.py")
    assert FILE.findall("see tests/test_docs.py, not runs/merge/x") == ["tests/test_docs.py,"]
    assert COMMAND.findall("mergesearch search study.yaml && .venv/bin/mergesearch x") == ["search"]


def test_every_page_is_linked_from_the_readme() -> None:
    readme = text_of(ROOT / "README.md")
    assert not [page.name for page in PAGES if page.parent.name == "docs" and f"docs/{page.name}" not in readme]
