"""A real model on real questions: the live scorer against stock HFLM through lm-eval's simple_evaluate."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.harness import Evaluation
from evals.questions import Leaf
from evals.scorer import LiveScorer
from evals.tasks import TaskSpec, load_tasks

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
CASES = (
    (TaskSpec(task="arc_easy", num_fewshot=0), 5, None),
    (TaskSpec(task="arc_challenge", num_fewshot=25), 1, None),
    (TaskSpec(task="mmlu_anatomy", num_fewshot=5), 2, None),
    (TaskSpec(task="gsm8k", num_fewshot=5), 2, 8),
    (TaskSpec(task="ifeval"), 3, 12),
)

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


@pytest.mark.parametrize(("spec", "count", "longest"), CASES, ids=[case[0].task for case in CASES])
def test_a_real_model_answers_as_through_hflm(
    real: tuple[Any, Any], benchmark_data: Path, spec: TaskSpec, count: int, longest: int | None
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = real
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
        for score in (
            results.scores.get(f"{ours.label}/{metric}/{name}"),
            results.scores.get(f"{ours.label}/{metric}"),
        ):
            assert score is None or score.value == value
