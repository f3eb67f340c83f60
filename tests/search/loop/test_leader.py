"""The loop, end to end on tiny models: what is scored, in which order, and what a second run does."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.errors import SearchStoppedError, StoreError
from search.loop.run import run_search
from search.results.outcome import Failed
from search.storage.replay import replay
from search.study.study import parse_study
from tests.search.recorder import Recorder
from tests.search.studies import tiny_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> tuple[Path, Recorder]:
    """Return the folder of a finished tiny study and everything its observer heard."""
    folder = tmp_path_factory.mktemp("study")
    recorder = Recorder()
    study = parse_study(tiny_study(), place="tiny.yaml")
    run_search(study, folder, observer=recorder, models_roots=[tiny_models])
    return folder, recorder


def test_baselines_come_first_then_trials_then_finalists_and_test_questions(finished: tuple[Path, Recorder]) -> None:
    _, recorder = finished
    parts = [(record.kind, record.part) for record in recorder.records]
    baselines = ["base", "math", "science", "equal weights", "task arithmetic"]
    assert [record.name for record in recorder.records[:5]] == baselines
    assert parts[5:11] == [("trial", "search")] * 6
    selected = [record.name for record in recorder.records if record.part == "selection"]
    assert parts[11:14] == [("finalist", "selection")] * 3
    assert selected[3:] == ["equal weights", "task arithmetic"]
    assert {record.name for record in recorder.records[16:]} == {recorder.verdicts[0].winner, *baselines}
    assert {record.part for record in recorder.records[16:]} == {"test"}


def test_search_selection_and_test_questions_never_overlap(finished: tuple[Path, Recorder]) -> None:
    _, recorder = finished
    asked: dict[str, set[str]] = {"search": set(), "selection": set(), "test": set()}
    for record in recorder.records:
        assert record.results is not None
        asked[record.part] |= set(record.results.answers["question"])
    assert not asked["search"] & asked["selection"]
    assert not (asked["search"] | asked["selection"]) & asked["test"]


def test_the_verdict_is_about_the_winner_on_test_questions(finished: tuple[Path, Recorder]) -> None:
    _, recorder = finished
    (verdict,) = recorder.verdicts
    tested = next(record for record in recorder.records if record.part == "test")
    assert verdict.winner == tested.name
    assert verdict.test_value == tested.metrics["objective"]
    assert verdict.comparisons[0].opponent == verdict.best_parent
    interval = verdict.comparisons[0].objective
    assert interval.low <= interval.estimate <= interval.high
    assert verdict.optimism == pytest.approx(verdict.search_value - verdict.test_value)


def test_the_same_seed_gives_the_same_study(finished: tuple[Path, Recorder], tmp_path: Path, tiny_models: Path) -> None:
    _, first = finished
    again = Recorder()
    run_search(parse_study(tiny_study(), place="tiny.yaml"), tmp_path, observer=again, models_roots=[tiny_models])
    assert [(r.name, r.params, r.metrics) for r in again.records] == [
        (r.name, r.params, r.metrics) for r in first.records
    ]


def test_a_finished_study_is_reported_from_the_store_without_opening_a_model(finished: tuple[Path, Recorder]) -> None:
    folder, first = finished
    again = Recorder()
    run_search(parse_study(tiny_study(), place="tiny.yaml"), folder, observer=again, models_roots=[])
    assert again.verdicts[0].digest == first.verdicts[0].digest
    assert again.verdicts[0].comparisons == first.verdicts[0].comparisons
    assert len(again.records) == len(first.records)


def test_replay_tells_of_every_record_once(finished: tuple[Path, Recorder]) -> None:
    folder, first = finished
    again = Recorder()
    count = replay(parse_study(tiny_study(), place="tiny.yaml"), folder, again)
    assert count == len(again.records) == len(first.records)
    assert {(r.name, r.part) for r in again.records} == {(r.name, r.part) for r in first.records}


def test_the_store_of_another_study_is_refused_with_the_difference(finished: tuple[Path, Recorder]) -> None:
    folder, _ = finished
    with pytest.raises(StoreError, match=r"holds another study called 'tiny'; it differs in search.seed: 1 -> 2"):
        run_search(parse_study(tiny_study(seed=2), place="t"), folder, observer=Recorder())


def test_a_larger_budget_goes_on(finished: tuple[Path, Recorder], tmp_path: Path, tiny_models: Path) -> None:
    small, large, recorder = tiny_study(trials=2), tiny_study(trials=3), Recorder()
    run_search(parse_study(small, place="t"), tmp_path, observer=Recorder(), models_roots=[tiny_models])
    run_search(parse_study(large, place="t"), tmp_path, observer=recorder, models_roots=[tiny_models])
    assert recorder.outlook is not None
    assert recorder.outlook.done == 2
    assert len(recorder.trials()) == 3


def test_candidates_that_fail_alike_stop_the_search_and_keep_what_was_finished(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from search.scoring.candidate_scorer import CandidateScorer

    score = CandidateScorer.score

    def failing(scorer: CandidateScorer, job: Any, between: Any = None) -> Any:
        return score(scorer, job, between) if job.rivals is None else Failed("logits are NaN", "ScoringError")

    monkeypatch.setattr(CandidateScorer, "score", failing)
    recorder = Recorder()
    study = parse_study(tiny_study(race=True), place="t")
    with pytest.raises(SearchStoppedError, match="3 candidates in a row failed in the same way"):
        run_search(study, tmp_path, observer=recorder, models_roots=[tiny_models])
    assert [record.state for record in recorder.trials()] == ["failed"] * 3


def test_two_processes_cannot_run_one_study(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another process runs this study"):
            run_search(parse_study(tiny_study(), place="t"), tmp_path, observer=Recorder())


def test_a_parent_that_changed_is_noticed(tmp_path: Path) -> None:
    from tests.tiny import make_family

    roots = make_family(tmp_path / "models")
    folder = tmp_path / "study"
    run_search(parse_study(tiny_study(trials=2), place="t"), folder, observer=Recorder(), models_roots=[roots])
    weights = roots / "math" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(StoreError, match="parents changed since the study began: math"):
        run_search(parse_study(tiny_study(trials=3), place="t"), folder, observer=Recorder(), models_roots=[roots])


def test_the_winner_is_a_plain_recipe(finished: tuple[Path, Recorder]) -> None:
    _, recorder = finished
    document = yaml.safe_load(recorder.verdicts[0].recipe_yaml)
    text = yaml.safe_dump(document)
    assert "low:" not in text
    assert document["merge_method"] in {"ties", "slerp"}


def test_a_baseline_that_nothing_beats_wins_and_is_said_to(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.study_folder.verdict_text import verdict_lines
    from search.verdict import conclusion as conclude

    monkeypatch.setattr(conclude, "name_winner", lambda *_: "task arithmetic")
    recorder = Recorder()
    study = parse_study(tiny_study(trials=2), place="t")
    verdict = run_search(study, tmp_path, observer=recorder, models_roots=[tiny_models])
    assert (verdict.winner, verdict.family) == ("task arithmetic", "")
    assert "task arithmetic" not in [comparison.opponent for comparison in verdict.comparisons]
    assert "found nothing better" in "\n".join(verdict_lines(verdict))
