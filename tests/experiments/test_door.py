"""`experiments.run`: the whole as the command does it, from a mapping, a file or an object."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import experiments
from merge.recipe.schema import Recipe
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Verdict
from search.study.study import parse_study
from tests.conftest import ROOT
from tests.search.studies import tiny_study


def small() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(tiny_study(trials=2, finalists=1))
    document["tracking"] = {"mlflow": None}
    document["evaluate"]["questions"] = {"search": 4, "selection": 2, "test": 4}
    return document


class Listener:
    """Notes what it hears of."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def started(self, outlook: Outlook) -> None:
        self.heard.append(f"started {outlook.study}")

    def scored(self, record: TrialRecord) -> None:
        self.heard.append(f"{record.kind} {record.part}")

    def finished(self, verdict: Verdict) -> None:
        self.heard.append(f"finished {verdict.winner}")


def test_a_mapping_runs_and_an_observer_hears_of_it(
    tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listener, document = Listener(), small()
    done = experiments.run(document, tmp_path / "out", models_roots=[tiny_models], progress=listener)
    assert capsys.readouterr().out == ""
    assert document == small()
    assert done.verdict is not None
    assert listener.heard[0] == "started tiny"
    assert listener.heard[-1] == f"finished {done.verdict.winner}"
    assert {"baseline search", "trial search", "baseline test"} <= set(listener.heard)
    assert isinstance(done.best, Recipe)
    assert done.best.digest() == done.verdict.digest
    assert done.folder == tmp_path / "out"
    assert len(done.trials) == 2

    again = experiments.run(
        parse_study(yaml.safe_dump(document), place="s"), tmp_path / "out", models_roots=[str(tiny_models)],
        progress="quiet",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert again.verdict is not None
    assert (again.verdict.digest, again.verdict.scores) == (done.verdict.digest, done.verdict.scores)
    assert "winner:" in printed
    assert "baseline  base" not in printed


def test_json_is_one_object_a_line_and_nothing_else(tiny_models: Path, tmp_path: Path) -> None:
    document = small()
    del document["tracking"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    uri = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    command = [sys.executable, "-m", "experiments", "search", str(tmp_path / "study.yaml"), "--json"]
    command += ["--models-root", str(tiny_models), "--out", str(tmp_path / "out"), "--trials", "3"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [events[0]["event"], *(event["event"] for event in events[-2:])] == ["started", "verdict", "places"]
    assert {event["event"] for event in events} <= {"started", "scored", "note", "verdict", "places"}
    assert [event["phase"] for event in events if event["event"] == "scored" and event["kind"] == "trial"] == [
        "trials"
    ] * 3
    assert events[-1]["folder"] == str(tmp_path / "out")
    assert {place["name"]: place["location"] for place in events[-1]["places"]}["MLflow"] == uri
    assert (tmp_path / "elsewhere.db").is_file()


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(AttributeError, match="'experiments' has no attribute 'walk'"):
        experiments.walk  # noqa: B018 - the look-up is what is tested
    assert "run" in dir(experiments)


@pytest.mark.parametrize("device", ["cuda:77", "gpu", "meta"])
def test_a_missing_device_is_bad_input_before_anything_is_built(tmp_path: Path, device: str) -> None:
    from experiments.errors import InputError

    with pytest.raises(InputError, match=f"--device {device}: must be a device that torch can use here"):
        experiments.run(small(), tmp_path / "out", device=device)
    assert not list(tmp_path.iterdir())
