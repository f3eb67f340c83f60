"""Out of memory in one candidate, where it merges and where it is scored: a failed trial, not a failed search."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.evaluation import Evaluation
from merge.merger import Merger
from search.errors import SearchStoppedError
from search.loop.run import run_search
from search.study.study import parse_study
from tests.search.recorder import Recorder
from tests.search.studies import tiny_study

BASELINES = 5
PLACES = {"merge": (Merger, "merge_live"), "score": (Evaluation, "run")}


def refusal() -> BaseException:
    """Return what torch raises when the operating system refuses memory: a plain RuntimeError."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


LACKS: dict[str, Callable[[], BaseException]] = {
    "python": MemoryError,
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "cpu": refusal,
}


def lacking(monkeypatch: pytest.MonkeyPatch, place: str, lack: str, turns: range) -> None:
    """Have memory run out at some of the candidates, the first being number 1."""
    owner, name = PLACES[place]
    real, count = getattr(owner, name), 0
    seen: list[Any] = []

    def scarce(self: Any, *values: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count - BASELINES in turns:
            seen.append(count)
            raise LACKS[lack]()
        return real(self, *values, **named)

    monkeypatch.setattr(owner, name, scarce)


@pytest.mark.parametrize(("place", "lack"), [("merge", "python"), ("score", "gpu")])
def test_one_candidate_fails_with_its_reason_and_the_search_goes_on(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, place: str, lack: str
) -> None:
    lacking(monkeypatch, place, lack, range(2, 3))
    heard = Recorder()
    study = parse_study(tiny_study(race=False), place="tiny.yaml")
    run_search(study, tmp_path / "study", observer=heard, models_roots=[tiny_models])
    assert [record.state for record in heard.trials()] == ["complete", "failed", *["complete"] * 4]
    assert str(heard.trials()[1].reason).startswith("out of memory: ")


def test_three_in_a_row_stop_the_search_with_that_reason_and_the_next_start_goes_on(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking(monkeypatch, "merge", "cpu", range(2, 5))
    study = parse_study(tiny_study(), place="tiny.yaml")
    with pytest.raises(SearchStoppedError, match=r"3 candidates in a row failed in the same way.*out of memory: "):
        run_search(study, tmp_path / "study", observer=Recorder(), models_roots=[tiny_models])
    monkeypatch.undo()
    heard = Recorder()
    run_search(study, tmp_path / "study", observer=heard, models_roots=[tiny_models])
    assert [record.state == "failed" for record in heard.trials()] == [False, True, True, True, False, False]
