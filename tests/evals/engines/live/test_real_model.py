"""A real model on real questions: the live scorer against stock HFLM through lm-eval's simple_evaluate."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from evals.engines.common.hflm import stock_scorer
from evals.engines.live.engine import LiveScorer
from evals.evaluation import Evaluation
from evals.tasks.loading import TaskSpec, load_tasks
from evals.tasks.sampling import Leaf

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
MORE = int(os.environ.get("MERGESEARCH_REAL_QUESTIONS", "0"))
"""Questions per task; 0 asks as few as keeps the suite short."""
CASES = (
    (TaskSpec(task="arc_easy", num_fewshot=0), 3, None),
    (TaskSpec(task="arc_challenge", num_fewshot=0), 3, None),
    (TaskSpec(task="arc_challenge", num_fewshot=25), 1, None),
    (TaskSpec(task="mmlu_anatomy", num_fewshot=5), 2, None),
    (TaskSpec(task="hellaswag", num_fewshot=10), 1, None),
    (TaskSpec(task="winogrande", num_fewshot=5), 2, None),
    (TaskSpec(task="truthfulqa_mc1"), 1, None),
    (TaskSpec(task="truthfulqa_mc2"), 1, None),
    (TaskSpec(task="gsm8k", num_fewshot=5), 1, 8),
    (TaskSpec(task="ifeval"), 2, 10),
)
CONTINUOUS = {"truthfulqa_mc2"}
"""Tasks whose metric is a probability, equal as far as the likelihoods are; all others count answers."""
IDS = [f"{spec.task}-{spec.num_fewshot or 0}" for spec, _, _ in CASES]

pytestmark = [pytest.mark.model, pytest.mark.slow]


def demo_model() -> Path:
    cache = os.environ.get("MERGESEARCH_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "mergesearch"
    )
    return Path(os.environ.get("MERGESEARCH_DEMO_MODEL") or Path(cache, "models", NAME))


@pytest.fixture(scope="module")
def real() -> tuple[Any, Any]:
    folder = demo_model()
    if not (folder / "config.json").is_file():
        pytest.skip(f"the demo's base model is not at {folder} (run the demo once, or set MERGESEARCH_DEMO_MODEL)")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(
        folder
    )


@pytest.mark.parametrize(("spec", "count", "longest"), CASES, ids=IDS)
def test_a_real_model_answers_as_through_hflm(
    real: tuple[Any, Any], benchmark_data: Path, spec: TaskSpec, count: int, longest: int | None
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = real
    count = MORE or count
    ours, theirs = (load_tasks([spec], data=benchmark_data)[0] for _ in range(2))
    if longest is not None:
        for loaded in (ours, theirs):
            loaded.task.set_config("generation_kwargs", {"max_gen_toks": longest}, update=True)
    questions = Leaf(ours).test.questions(ours.name)[:count]
    scorer = LiveScorer(model, tokenizer)
    evaluation = Evaluation.build([ours], questions, tokenizer=tokenizer)
    results = evaluation.run(scorer)
    told = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2),
        tasks=[theirs.task],
        num_fewshot=spec.num_fewshot,
        limit=count,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    assert scorer.fallback_reason is None
    own = [request.resps for one in evaluation._asked for request in one.own]
    other = [answers for sample in told["samples"][ours.name][:count] for answers in sample["resps"]]
    for mine, stock in zip(own, other, strict=True):
        if isinstance(stock[0], tuple):
            assert mine[0][0] == pytest.approx(stock[0][0], abs=1e-3)
            assert mine[0][1] == stock[0][1]
        else:
            assert mine == stock
    for key, value in told["results"][ours.name].items():
        metric, _, name = key.partition(",")
        wanted = pytest.approx(value, abs=1e-4) if spec.task in CONTINUOUS else value
        for score in (
            results.scores.get(f"{ours.label}/{metric}/{name}"),
            results.scores.get(f"{ours.label}/{metric}"),
        ):
            assert score is None or score.value == wanted


def texts_of(data: Path, count: int) -> list[str]:
    lines = (data / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [f"{row['question']}\n{row['answer']}" for row in map(json.loads, lines)]


def test_whole_texts_of_a_real_model_score_as_in_hflm(real: tuple[Any, Any], benchmark_data: Path) -> None:
    from lm_eval.api.instance import Instance

    asked = [
        Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0, metadata=("t", 0, 1))
        for text in texts_of(benchmark_data, 2)
    ]
    model, tokenizer = real
    ours, theirs, exact = (
        np.array(scorer.loglikelihood_rolling(asked, disable_tqdm=True))
        for scorer in (
            LiveScorer(model, tokenizer, max_length=64),
            stock_scorer(model, tokenizer, max_length=64),
            stock_scorer(copy.deepcopy(model).double(), tokenizer, max_length=64),
        )
    )
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert np.abs(ours - exact).max() <= np.abs(theirs - exact).max()  # HFLM adds up hundreds of float32 in float32


def test_the_error_of_a_real_model_against_float64_is_no_larger_than_that_of_hflm(
    real: tuple[Any, Any], benchmark_data: Path
) -> None:
    model, tokenizer = real
    (task,) = load_tasks([TaskSpec(task="arc_easy", num_fewshot=0)], data=benchmark_data)
    questions = Leaf(task).test.questions(task.name)[: MORE or 4]
    requests = [r for one in Evaluation.build([task], questions, tokenizer=tokenizer).asked for r in one.requests]
    found = [
        np.array([value for value, _ in scorer.loglikelihood(requests, disable_tqdm=True)])
        for scorer in (
            LiveScorer(model, tokenizer),
            stock_scorer(model, tokenizer),
            stock_scorer(copy.deepcopy(model).double(), tokenizer),
        )
    ]
    ours, theirs = (np.abs(one - found[2]) for one in found[:2])
    assert stats.wilcoxon(ours, theirs, alternative="greater").pvalue > 1e-3  # how much it sees: test_scorer.py
