"""Several processes on a real PostgreSQL server and on a real Ray cluster, and through the command line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.faults.made_up import Helpers, lead
from tests.faults.postgres import running_server
from tests.search.studies import tiny_study
from tests.search.test_workers import SETTINGS, trials_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Start a PostgreSQL server in a folder of its own, and return its URL."""
    with running_server() as server:
        yield server.url


def test_processes_share_a_study_on_postgresql(postgres: str, tmp_path: Path) -> None:
    together = lead(postgres, SETTINGS, Helpers(2, postgres, SETTINGS, 0.002))
    assert trials_of(together) == trials_of(lead(f"sqlite:///{tmp_path / 'alone.db'}", SETTINGS))


def mergesearch(*words: object, cwd: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "experiments", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def told(process: "subprocess.Popen[str]", code: int = 0) -> str:
    text, _ = process.communicate(timeout=300)
    assert process.returncode == code, text
    return text


def scored(folder: Path) -> Any:
    """Return what the trials of a finished study were and scored."""
    table = pd.read_csv(folder / "trials.csv").query("kind == 'trial'").sort_values("number").reset_index(drop=True)
    return table[[name for name in table if not str(name).startswith("seconds")]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> tuple[Path, Path]:
    """Return a study file and the folder of its run by one process."""
    home = tmp_path_factory.mktemp("alone")
    document = yaml.safe_load(tiny_study(sampler="random", race=False))
    document["tracking"] = {"mlflow": None}
    (home / "tiny.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    told(mergesearch("search", "tiny.yaml", "--models-root", tiny_models, cwd=home))
    return home / "tiny.yaml", home / "runs" / "tiny"


def test_workers_of_one_host_give_the_trials_of_one_process(
    alone: tuple[Path, Path], tmp_path: Path, tiny_models: Path
) -> None:
    text = told(mergesearch("search", alone[0], "--workers", 2, "--models-root", tiny_models, cwd=tmp_path))
    assert "Verdict" in text
    pd.testing.assert_frame_equal(scored(tmp_path / "runs" / "tiny"), scored(alone[1]))


def test_a_worker_joins_a_running_study_and_ends_with_it(
    alone: tuple[Path, Path], tmp_path: Path, tiny_models: Path
) -> None:
    leader = mergesearch("search", alone[0], "--models-root", tiny_models, "--trials", 30, cwd=tmp_path)
    while not (tmp_path / "runs" / "tiny" / "study.yaml").exists():
        assert leader.poll() is None
        time.sleep(0.1)
    text = told(mergesearch("worker", "runs/tiny", "--models-root", tiny_models, cwd=tmp_path))
    told(leader)
    assert "the study asks for no more candidates; this process scored" in text
    assert len(scored(tmp_path / "runs" / "tiny")) == 30


def test_a_worker_of_a_finished_study_says_so_whoever_looked_at_it_since(
    alone: tuple[Path, Path], tmp_path: Path
) -> None:
    for _ in range(2):
        text = told(mergesearch("worker", alone[0], "--out", alone[1], "--models-root", tmp_path, cwd=tmp_path))
        assert text.splitlines()[1:] == ["study tiny is finished: it asks for no more candidates"]
        told(mergesearch("search", alone[0], "--out", alone[1], cwd=tmp_path))


def test_ctrl_c_ends_a_search_and_says_how_to_go_on(
    alone: tuple[Path, Path], tmp_path: Path, tiny_models: Path
) -> None:
    words = ("search", alone[0], "--models-root", tiny_models)
    running = mergesearch(*words, cwd=tmp_path)
    assert running.stdout is not None
    begun = ""
    while "equal weights" not in begun:
        begun += running.stdout.readline()
    running.send_signal(signal.SIGINT)
    text = told(running, 130)
    assert "ends after the current block of questions" in text
    assert "go on with: mergesearch search" in text
    told(mergesearch(*words, cwd=tmp_path))
    pd.testing.assert_frame_equal(scored(tmp_path / "runs" / "tiny"), scored(alone[1]))


def test_ray_actors_give_the_trials_of_one_process(alone: tuple[Path, Path], tmp_path: Path, tiny_models: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: mergesearch[ray]")
    text = told(mergesearch("search", alone[0], "--ray", "--workers", 2, "--models-root", tiny_models, cwd=tmp_path))
    assert "Ray: 2 actors on 1 hosts" in text
    assert "ended" not in text.split("Verdict")[0]
    pd.testing.assert_frame_equal(scored(tmp_path / "runs" / "tiny"), scored(alone[1]))
