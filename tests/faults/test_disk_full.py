"""A full disk under the store, the export, the caches and MLflow: one line, nothing half-written, and it can go on."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.experiments.test_cli import run
from tests.faults.store_rows import read_rows
from tests.faults.wholeness import check_files, mirrored
from tests.search.studies import tiny_study

LEFT = (0, 100_000, 240_000, 330_000)
"""Bytes that are left when a search starts, in turn: it gets a little further each time."""
Record = Callable[[str, object], None]


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[int | None], None]]:
    """Mount a small file system on a folder; give a function that fills it up to some bytes, or empties it for None."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.decode().strip()}")

    def leave(left: int | None) -> None:
        filler = folder / ".filler"
        filler.unlink(missing_ok=True)
        if left is not None:
            status = os.statvfs(folder)
            filler.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - left)))

    try:
        yield leave
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def study_file(home: Path, mlflow: str | None = None) -> Path:
    home.mkdir(exist_ok=True)
    (home / "tiny.yaml").write_text(yaml.safe_dump(yaml.safe_load(tiny_study()) | {"tracking": {"mlflow": mlflow}}))
    return home / "tiny.yaml"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> tuple[Path, tuple[object, ...]]:
    """Return the folder of an undisturbed study, and the command's options."""
    home = tmp_path_factory.mktemp("undisturbed")
    options = ("--models-root", tiny_models, "--out", home / "tiny")
    code, _, err = run("search", study_file(home), *options)
    assert (code, err) == (0, "")
    return home / "tiny", options[:2]


def same(folder: Path, expected: Path) -> bool:
    """Tell whether two finished studies found the same."""
    found: list[Any] = [
        [(one / name).read_text() for name in ("best.yaml", "verdict.json", "answers.csv")]
        for one in (folder, expected)
    ]
    return bool(found[0] == found[1])


def test_under_the_store(tmp_path: Path, undisturbed: tuple[Path, tuple[object, ...]], record_property: Record) -> None:
    expected, options = undisturbed
    study, folder = study_file(tmp_path / "home"), tmp_path / "disk" / "tiny"
    with small_disk(tmp_path / "disk", 8_000_000) as leave:
        known: Mapping[int, Any] = {}
        for left in LEFT:
            leave(left)
            code, _, err = run("search", study, *options, "--out", folder)
            assert code in (1, 2), err
            assert err.count("error: ") == 1, err
            assert any(words in err for words in ("is full", "No space left")), err
            check_files(tmp_path / "disk")
            now = read_rows(folder / "study.db", "tiny").finished
            assert {number: now.get(number) for number in known} == known
            known = now
        leave(None)
        code, _, err = run("search", study, *options, "--out", folder)
        assert (code, err) == (0, "")
        assert same(folder, expected)
    record_property("count", len(LEFT))


def test_under_an_export(tmp_path: Path, undisturbed: tuple[Path, tuple[object, ...]], record_property: Record) -> None:
    folder, options = undisturbed
    with small_disk(tmp_path / "disk", 2_000_000) as leave:
        out = tmp_path / "disk" / "merged"
        for left in (0, 20_000, 90_000):
            leave(left)
            code, _, err = run("export", folder, "--model", out, *options)
            assert (code, err.count("\n")) == (1, 1), err
            assert "No space left" in err
            assert [path.name for path in (tmp_path / "disk").iterdir()] == [".filler"]
        leave(None)
        assert run("export", folder, "--model", out, *options)[0] == 0
        check_files(tmp_path / "disk")
    record_property("count", 3)


def test_under_the_cache_of_prompts(tmp_path: Path, undisturbed: tuple[Path, tuple[object, ...]]) -> None:
    expected, options = undisturbed
    study, folder = study_file(tmp_path / "home"), tmp_path / "tiny"
    with small_disk(folder / "prompts", 100_000) as leave:
        leave(10_000)
        code, _, err = run("search", study, *options, "--out", folder)
        assert (code, err) == (0, "")
        assert same(folder, expected)
        check_files(folder)


def test_under_mlflow(tmp_path: Path, undisturbed: tuple[Path, tuple[object, ...]], record_property: Record) -> None:
    expected, options = undisturbed
    folder = tmp_path / "tiny"
    with small_disk(tmp_path / "disk", 100_000_000) as leave:
        study = study_file(tmp_path / "home", f"sqlite:///{tmp_path / 'disk' / 'mlflow.db'}")
        for left in (0, 200_000):
            leave(left)
            code, out, err = run("search", study, *options, "--out", folder)
            assert (code, err) == (0, "")
            assert out.count("mlflow mirror is off: ") == 1
            assert "rebuild it later with 'mergesearch mlflow-sync" in out
            check_files(tmp_path / "disk")
        assert same(folder, expected)
        code, _, err = run("mlflow-sync", folder)
        assert code == 1
        assert "the mirror is not whole" in err
        leave(None)
        code, out, err = run("mlflow-sync", folder)
        assert (code, err) == (0, ""), out
        states = [state for _, state, _ in mirrored(tmp_path / "disk" / "mlflow.db")]
        assert states == ["FINISHED"] * len(states)
        assert len(states) > 20
    record_property("count", 2)
