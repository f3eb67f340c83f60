"""What a later start accepts and refuses, and how a search ends that no candidate came through."""

from pathlib import Path
from typing import Any

import pytest

from search.errors import SearchStoppedError, StoreError
from search.storage.store import Store
from search.study.study import LoadedStudy
from tests.search.fake import FakeResources, fake_study, run_fake, weights_of
from tests.search.loop.test_run import ACC, skilled


def merges_are_bad(recipe: Any, seed: int, question: Any) -> dict[str, float]:
    """Answer right for models as they are and for task arithmetic, never for a candidate."""
    return {"acc": float(recipe.merge_method == "passthrough" or weights_of(recipe) == (1.0, 1.0))}


def test_a_race_that_stops_every_candidate_ends_with_a_verdict_on_the_baselines(tmp_path: Path) -> None:
    verdict, recorder = run_fake(FakeResources(fake_study(search={"trials": 5}), ACC, merges_are_bad), tmp_path)
    assert {record.state for record in recorder.trials()} == {"stopped"}
    assert verdict.winner == "task arithmetic"
    assert "no candidate was scored on all questions (the race stopped every one)" in verdict.ended
    assert verdict.ended.endswith("the finalists are baselines alone")


def test_without_a_merge_among_the_baselines_the_remedy_is_told(tmp_path: Path) -> None:
    models = [{"model": "a", "parameters": {"weight": {"low": 0.1, "high": 0.4}}}]
    families = {"f": {"merge_method": "task_arithmetic", "base_model": "base", "models": models}}
    study = fake_study(families=families, search={"trials": 3})
    with pytest.raises(SearchStoppedError, match=r"the race stopped every one .* set search.race to false"):
        run_fake(FakeResources(study, ACC, merges_are_bad), tmp_path)


def begun(folder: Path, identity: Any) -> str:
    """Make a store whose study began with an identity."""
    url = f"sqlite:///{folder / 'study.db'}"
    store = Store(url, fake_study())
    store.trials.set_user_attr("identity", identity)
    return url


def test_a_store_that_began_before_a_key_was_known_goes_on(tmp_path: Path) -> None:
    identity: Any = fake_study().identity()
    del identity["search"]["rung"], identity["evaluate"]["engine"], identity["constraints"]
    url = begun(tmp_path, identity)
    Store(url, fake_study())
    with pytest.raises(StoreError, match=r"differs in search.rung: 'none' -> 'likelihood'; choose"):
        Store(url, fake_study(search={"rung": "likelihood"}))


def test_a_default_that_is_said_does_not_make_another_study() -> None:
    said: LoadedStudy = fake_study(search={"race": True, "rung": "none"}, constraints={})
    assert said.digest() == fake_study().digest()
    assert said.identity() == fake_study().identity()


def test_a_budget_may_grow_but_not_below_what_is_done(tmp_path: Path) -> None:
    run_fake(FakeResources(fake_study(search={"trials": 4}), ACC, skilled), tmp_path)
    with pytest.raises(StoreError, match=r"search.trials: must be at least 4, so many trials .* got 3"):
        run_fake(FakeResources(fake_study(search={"trials": 3}), ACC, skilled), tmp_path)
    larger = fake_study(search={"trials": 6, "patience": 50, "max_hours": 9})
    _, recorder = run_fake(FakeResources(larger, ACC, skilled), tmp_path)
    assert [record.number for record in recorder.trials()] == sorted({r.number for r in recorder.trials()})
    assert len(recorder.trials()) == 6


def test_candidates_that_race_among_themselves_leave_one_that_answered_everything(tmp_path: Path) -> None:
    study = fake_study(search={"trials": 5, "race_against": "candidates"})
    _, recorder = run_fake(FakeResources(study, ACC, merges_are_bad), tmp_path)
    states = [record.state for record in recorder.trials()]
    assert states[0] == "complete"
