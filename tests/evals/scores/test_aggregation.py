"""Scores of leaves: lm-eval's aggregation and standard errors, and none of its resampling in a search."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.api.metrics import bootstrap_stderr, mean, mean_stderr, median

from evals.scores.aggregation import leaf_score
from evals.scores.results import Item

VALUES = [random.Random(0).random() for _ in range(50)]


def leaf(function: Any) -> Any:
    return SimpleNamespace(
        task=SimpleNamespace(aggregation=lambda: {"score": function}), higher_is_better={"score": True}
    )


def items(values: list[float]) -> list[Item]:
    return [Item("t", "t", str(i), "score", value, 1.0) for i, value in enumerate(values)]


def test_a_mean_has_lm_evals_standard_error() -> None:
    found = leaf_score(leaf(mean), "score", items(VALUES))
    assert (found.value, found.stderr, found.n) == (mean(VALUES), mean_stderr(VALUES), 50)
    assert leaf_score(leaf(mean), "score", items(VALUES[:1])).stderr is None


def test_other_aggregations_are_resampled_as_lm_eval_does_when_asked(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    found = leaf_score(leaf(median), "score", items(VALUES), bootstrap_iters=200)
    assert capfd.readouterr().out == ""
    assert found.stderr == bootstrap_stderr(median, VALUES, 200)


def test_a_search_never_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> float:
        raise AssertionError("lm-eval resampled")

    monkeypatch.setattr("lm_eval.api.metrics.bootstrap_stderr", refuse)
    found = leaf_score(leaf(median), "score", items(VALUES))
    assert found.value == median(VALUES)
    assert found.stderr is None
