"""A search on another engine: every candidate's weights reach it, and the trials come out the same."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.loop.run import run_search
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Verdict
from search.study.study import parse_study
from tests.evals.engines import fake_vllm
from tests.search.studies import tiny_study


class Values:
    """Keeps the objective of every candidate."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def started(self, outlook: Outlook) -> None:
        pass

    def scored(self, record: TrialRecord) -> None:
        if record.part == "search":
            self.values[record.name] = record.metrics["objective"]

    def finished(self, verdict: Verdict) -> None:
        pass


def objectives(engine: str, models: Path, folder: Path) -> dict[str, float]:
    document: Any = yaml.safe_load(tiny_study(trials=1, race=False))
    document["tracking"] = {"mlflow": None}
    document["evaluate"] |= {"engine": engine, "questions": {"search": 4, "selection": 2, "test": 2}}
    document["families"].pop("slerp")
    seen = Values()
    study = parse_study(yaml.safe_dump(document), place="study.yaml")
    run_search(study, folder, observer=seen, models_roots=(models,), device="cpu")
    return seen.values


def test_a_search_on_vllm_finds_what_ours_finds(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm.install(monkeypatch, tmp_path)
    ours, theirs = (objectives(engine, tiny_models, tmp_path / engine) for engine in ("live", "vllm"))
    assert len(set(ours.values())) > 2, "candidates differ, so that a stale engine would show"
    assert theirs == pytest.approx(ours, rel=1e-3)
