"""What is installed: typed packages with all their files, and a start that notices a room hidden by another package."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from experiments.package_guard import ROOMS
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSOLE = "import sys; from {0} import {1}; sys.argv[0] = 'mergesearch'; sys.exit({1}())".format(
    *PROJECT["project"]["scripts"]["mergesearch"].split(":")
)
"""What pip writes into ``bin/mergesearch``."""


def started(words: list[str], first: Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run Python with a folder before the project on its path."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(first), str(ROOT)])}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=env, cwd=cwd, check=False)


@pytest.fixture
def hiding(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a folder with a foreign package of a room's name, which must not be imported."""
    package = tmp_path / "elsewhere" / str(request.param)
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('a foreign package was imported')")
    return package


@pytest.mark.parametrize("hiding", [room for room in ROOMS if room != "experiments"], indirect=True)
def test_the_command_names_the_package_that_hides_a_room(hiding: Path, tmp_path: Path) -> None:
    ended = started(["-c", CONSOLE, "list", "methods"], first=hiding.parent, cwd=tmp_path)
    assert ended.returncode == 2
    assert not ended.stdout
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: package '{hiding.name}': must be mergesearch's in {ROOT}, got {hiding}")


@pytest.mark.parametrize("hiding", [room for room in ROOMS if room != "experiments"], indirect=True)
def test_the_module_names_the_package_that_hides_a_room(hiding: Path, tmp_path: Path) -> None:
    ended = started(["-m", "experiments", "list", "methods"], first=hiding.parent, cwd=tmp_path)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"package '{hiding.name}'" in line


@pytest.mark.parametrize("words", [["-c", CONSOLE], ["-m", "experiments"]], ids=str)
def test_nothing_hidden_starts(words: list[str], tmp_path: Path) -> None:
    ended = started([*words, "list", "suites"], first=tmp_path, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "open-llm-v1" in ended.stdout


def test_every_room_is_typed() -> None:
    assert all((ROOT / room / "py.typed").is_file() for room in ROOMS)


def test_the_wheel_holds_every_file_of_the_rooms(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel")
    (wheel,) = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=False).stdout
    tracked = {name for name in listed.split("\0") if name.split("/")[0] in ROOMS and (ROOT / name).exists()}
    if not tracked:
        pytest.skip("not a git checkout: which files belong to the rooms is not known")
    assert not tracked - inside
