"""Hostile files of every kind: a line that names the place, or a result; never a traceback, a hang, a write, a bomb.

`MERGESEARCH_FUZZ` is the number of inputs, over all kinds together; `MERGESEARCH_FUZZ_LOG` a file to which a line of
figures is added for each kind.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from typer.testing import CliRunner

from tests.faults.kinds import KINDS, Kind
from tests.faults.watch import Heard, invoked

INPUTS = int(os.environ.get("MERGESEARCH_FUZZ", "400"))
LONG = INPUTS > 5000
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def caches() -> tuple[Path, ...]:
    """Return the folders outside of a test's own that libraries may write to."""
    from datasets import config

    return (Path(config.HF_CACHE_HOME), Path.home() / ".cache" / "mergesearch")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_hostile_files(kind: Kind, tmp_path: Path, caches: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    monkeypatch.chdir(home)
    kind.prepare(home)
    CliRunner().invoke(*kind.call(home, kind.example))  # what is imported, or compiled once, is no fault of a file
    shutil.rmtree(home / "out", ignore_errors=True)
    codes: Counter[int | None] = Counter()
    most, slowest = 0, 0.0

    def hear(raw: Any) -> Heard:
        application, arguments = kind.call(home, raw)
        before = listing(home)
        heard = invoked(application, arguments, (home, scratch, *caches))
        after = listing(home)
        if heard.code == 0:
            shutil.rmtree(home / "out", ignore_errors=True)
        else:
            assert after == before, f"written: {sorted(after - before)}"
        assert listing(home) == before
        return heard

    @settings(
        max_examples=max(10, INPUTS * kind.share // 100),
        deadline=None,
        database=None,
        derandomize=not LONG,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        print_blob=False,
    )
    @given(kind.inputs)
    def fuzz(raw: Any) -> None:
        nonlocal most, slowest
        heard = hear(raw)
        size = len(raw if isinstance(raw, bytes) else raw[1])
        faults = list(heard.faults(size=size, places=kind.places))
        assert not faults, "\n".join(faults)
        codes[heard.code] += 1
        most, slowest = max(most, heard.memory), max(slowest, heard.seconds)

    fuzz()
    log = os.environ.get("MERGESEARCH_FUZZ_LOG")
    if log:
        figures = {"kind": kind.name, "inputs": codes.total(), "accepted": codes[0], "refused": codes[2],
                   "failed": codes[1], "peak_mb": most >> 20, "slowest_cpu_s": round(slowest, 2)}  # fmt: skip
        with Path(log).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(figures) + "\n")


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("study", b"study: !!python/object/apply:os.system [ls]\n"),
        ("recipe", b"merge_method: [[[\xff"),
        ("card", b"---\na: &a [*a]\n---\n```yaml\nmerge_method: x\n```"),
    ],
)
def test_the_command_itself_says_one_line(kind: str, raw: bytes, tmp_path: Path) -> None:
    """What the process prints and exits with, beside what the commands do in this one."""
    _, arguments = next(one for one in KINDS if one.name == kind).call(tmp_path, raw)
    command = [sys.executable, "-m", "experiments", *(arguments or ["space", str(tmp_path / "study.yaml")])]
    before = listing(tmp_path)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert listing(tmp_path) == before


def listing(folder: Path) -> set[str]:
    """Return everything below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
