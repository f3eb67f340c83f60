"""Several scorers through the command line: processes of this host, a local Ray cluster, Ctrl-C."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT
from tests.search.studies import tiny_study


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


def answered(folder: Path) -> Any:
    """Return every answer of a finished study."""
    table = pd.read_csv(folder / "answers.csv")
    return table.sort_values(list(table.columns[:6])).reset_index(drop=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> tuple[Path, Path]:
    """Return a study file and the folder of its run by one process."""
    home = tmp_path_factory.mktemp("alone")
    document = yaml.safe_load(tiny_study(sampler="random", race=False))
    document["tracking"] = {"mlflow": None}
    (home / "tiny.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    told(mergesearch("search", "tiny.yaml", "--models-root", tiny_models, cwd=home))
    return home / "tiny.yaml", home / "runs" / "tiny"


@pytest.mark.parametrize("scorers", [("--workers", 2), ("--ray", "--workers", 2)], ids=["processes", "ray"])
def test_scorers_elsewhere_give_the_trials_and_answers_of_one_process(
    alone: tuple[Path, Path], tmp_path: Path, tiny_models: Path, scorers: tuple[object, ...]
) -> None:
    text = told(mergesearch("search", alone[0], *scorers, "--models-root", tiny_models, cwd=tmp_path))
    assert "Verdict" in text
    assert ("Ray: 2 actors on 1 hosts" in text) == ("--ray" in scorers)
    pd.testing.assert_frame_equal(scored(tmp_path / "runs" / "tiny"), scored(alone[1]))
    pd.testing.assert_frame_equal(answered(tmp_path / "runs" / "tiny"), answered(alone[1]))


def test_the_command_that_joined_a_study_says_what_replaced_it(tmp_path: Path) -> None:
    text = told(mergesearch("worker", "runs/tiny", "--workers", 8, cwd=tmp_path), 2)
    assert text.count("\n") == 1
    assert "--workers N" in text
    assert "--ray" in text


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
