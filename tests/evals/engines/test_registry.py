"""Engines: one interface, the same answers, and none that answers with the weights of before."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.engines.registry import engine_names, make_engine, weights_changed
from evals.errors import EngineError, ScoringError
from evals.evaluation import Evaluation
from evals.scores.results import Results
from evals.tasks.loading import TaskSpec, load_tasks
from evals.tasks.sampling import Leaf
from tests.evals.engines import fake_vllm


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_vllm.install(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def evaluation(data: Path, tokenizer: Any) -> Evaluation:
    tasks = load_tasks([TaskSpec(task="arc_easy", num_fewshot=1), TaskSpec(task="gsm8k", num_fewshot=1)], data=data)
    tasks[1].task.set_config("generation_kwargs", {"max_gen_toks": 4}, update=True)
    questions = [question for task in tasks for question in Leaf.of(task).test.questions(task.name)[:4]]
    return Evaluation.build(tasks, questions, tokenizer=tokenizer, metrics="all")


def overwrite(model: Any, other: Any) -> None:
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            mine.copy_(theirs)


def probabilities(results: Results) -> list[float]:
    """Return what depends on every weight: likelihoods, not right or wrong."""
    answers = results.answers
    return list(answers[answers["metric"].isin(["gold_prob", "gold_bits_per_byte"])]["value"])


@pytest.mark.parametrize("name", engine_names())
def test_every_engine_answers_alike_before_and_after_a_change(
    name: str, vllm: None, evaluation: Evaluation, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    first, second = make_model(seed=1), make_model(seed=2)
    expected = [probabilities(evaluation.run(make_engine("hf", model, tokenizer))) for model in (first, second)]
    live = copy.deepcopy(first)
    engine = make_engine(name, live, tokenizer)
    assert probabilities(evaluation.run(engine)) == pytest.approx(expected[0], rel=1e-3)
    overwrite(live, second)
    weights_changed(engine)
    assert probabilities(evaluation.run(engine)) == pytest.approx(expected[1], rel=1e-3)


def test_the_fake_is_stale_without_the_reset(
    vllm: None, evaluation: Evaluation, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    """The test above can fail: without the reset the engine answers with what it cached for other weights."""
    live = make_model(seed=1)
    engine = make_engine("vllm", live, tokenizer)
    before = probabilities(evaluation.run(engine))
    overwrite(live, make_model(seed=2))
    engine._inner.model.reset_prefix_cache = lambda: True
    weights_changed(engine)
    assert probabilities(evaluation.run(engine)) == before


def test_weights_go_into_the_running_engine_once_per_change(
    vllm: None, evaluation: Evaluation, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    engine = make_engine("vllm", make_model(seed=1), tokenizer)
    inner = engine._inner.model
    for changes, resets in ((0, 1), (0, 1), (1, 2), (3, 3)):
        for _ in range(changes):
            weights_changed(engine)
        evaluation.run(engine)
        assert inner.resets == resets
        assert inner is engine._inner.model
    assert inner.settings["load_format"] == "dummy"
    assert inner.settings["enable_prefix_caching"]
    assert inner.settings["dtype"] == "float32"


def test_a_cache_that_cannot_be_reset_fails_the_candidate(
    vllm: None, evaluation: Evaluation, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    engine = make_engine("vllm", make_model(seed=1), tokenizer)
    engine._inner.model.busy = True
    with pytest.raises(ScoringError, match="prefix cache must be reset"):
        evaluation.run(engine)


def test_without_vllm_the_way_to_install_it_is_said(
    monkeypatch: pytest.MonkeyPatch, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    monkeypatch.setattr("evals.engines.vllm.find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"--engine vllm: .* pip install 'mergesearch\[vllm\]'"):
        make_engine("vllm", make_model(), tokenizer)
