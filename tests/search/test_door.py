"""The doors: a study as file, dict or object; the verdict, the trials as a table, the best recipe; nothing printed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import search as room
from merge.recipe.schema import Recipe
from search.errors import StudyError
from search.results.observer import TrialRecord
from search.study.study import parse_study
from tests.conftest import ROOT
from tests.search.studies import tiny_study


class Names(room.NullObserver):
    def __init__(self) -> None:
        self.names: list[str] = []

    def scored(self, record: TrialRecord) -> None:
        self.names.append(record.name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> tuple[Any, Names]:
    folder, names = tmp_path_factory.mktemp("door") / "tiny", Names()
    document = yaml.safe_load(tiny_study(trials=3, sampler="random"))
    return room.run(document, folder=folder, observers=[names], models_roots=[tiny_models]), names


def test_a_search_gives_verdict_trials_and_best(finished: tuple[Any, Names]) -> None:
    result, names = finished
    assert result.verdict.counts == {"search": 32, "selection": 16, "test": 24}
    assert isinstance(result.best, Recipe)
    assert result.best.digest() == result.verdict.digest
    assert list(result.trials.columns[:3]) == ["number", "family", "state"]
    assert {"objective", "mini_arc/acc_norm", "seconds"} < set(result.trials.columns)
    assert len(result.trials) == 3
    assert "base" in names.names


def test_a_study_is_loaded_from_its_folder_alone(finished: tuple[Any, Names]) -> None:
    result, _ = finished
    again = room.load(result.folder)
    assert again.verdict == result.verdict
    assert again.trials.equals(result.trials)
    assert {file.name.removesuffix("-shm").removesuffix("-wal") for file in result.folder.iterdir()} == {
        ".lock",
        "prompts",
        "study.db",
        "study.yaml",
    }


def test_an_unfinished_study_has_no_verdict_yet(tmp_path: Path) -> None:
    from search.storage.store import Store, default_url

    (tmp_path / "study.yaml").write_text(tiny_study())
    Store(default_url(tmp_path), parse_study(tiny_study(), place="t"))
    result = room.load(tmp_path)
    assert (result.verdict, result.best) == (None, None)
    with pytest.raises(StudyError, match=r"must be the folder of a study, as in runs/NAME, has no study.yaml"):
        room.load(tmp_path / "nowhere")


def test_a_finished_study_that_is_extended_says_that_its_test_questions_were_looked_at(
    finished: tuple[Any, Names], tiny_models: Path
) -> None:
    from experiments.study_folder.verdict_text import verdict_lines

    result, _ = finished
    same = room.run(result.study, folder=result.folder)
    assert same.verdict is not None
    assert same.verdict.earlier_looks == 0
    for trials, looks in ((4, 1), (5, 2), (5, 2)):
        more = result.study.with_search(trials=trials)
        verdict = room.run(more, folder=result.folder, models_roots=[tiny_models]).verdict
        assert verdict is not None
        assert verdict.earlier_looks == looks
        times = "once" if looks == 1 else "2 times"
        assert f"the test questions were looked at {times} before" in "\n".join(verdict_lines(verdict))


def test_the_room_is_light_to_enter() -> None:
    code = "import search, sys; search.NullObserver; print({'torch', 'optuna', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
