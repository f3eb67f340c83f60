"""Evaluation against lm-eval's simple_evaluate, on the same questions."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evals.engines.live.engine import LiveScorer
from evals.errors import DataError, ScoringError, TaskError
from evals.evaluation import Evaluation
from evals.scores.results import merge_results
from evals.tasks.loading import LoadedTask, TaskSpec, load_tasks
from evals.tasks.metrics import GOLD_BITS
from evals.tasks.sampling import Leaf, Question, draw_questions

SPECS = (
    TaskSpec(task="arc_easy", num_fewshot=2),
    TaskSpec(task="gsm8k", num_fewshot=3),
    TaskSpec(task="mmlu_continuation_pair"),
)
PAIR = """
group: mmlu_continuation_pair
task: [mmlu_anatomy, mmlu_virology]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
"""


@pytest.fixture(scope="session")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "pair.yaml").write_text(PAIR, encoding="utf-8")
    return folder


@pytest.fixture
def tasks(data: Path, groups: Path) -> tuple[LoadedTask, ...]:
    return load_tasks(SPECS, data=data, include_path=groups)


def scored_by_lm_eval(tasks: Sequence[LoadedTask]) -> list[Question]:
    return [q for task in tasks for q in Leaf(task).test.questions(task.name)]


def by_lm_eval(lm: Any, task: Any, **options: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False)
    found = simple_evaluate(model=lm, tasks=[task], task_manager=manager, bootstrap_iters=100, **options)
    assert found is not None
    return dict(found)


def assert_equal_scores(told: dict[str, Any], label: str, scores: dict[str, Any]) -> int:
    compared = 0
    for key, value in told.items():
        metric, _, name = key.partition(",")
        ours = scores.get(f"{label}/{metric}/{name}") or scores.get(f"{label}/{metric}")
        if ours is not None:
            assert ours.value == pytest.approx(value, abs=1e-12), key
            if isinstance(error := told[f"{metric}_stderr,{name}"], float):
                assert ours.stderr == pytest.approx(error), key
            compared += 1
    return compared


@pytest.mark.parametrize("engine", ["hf", "live"])
def test_scores_are_those_of_simple_evaluate(
    data: Path, groups: Path, tasks: tuple[LoadedTask, ...], model: Any, tokenizer: Any, hflm: Any, engine: str
) -> None:
    lm = LiveScorer(model, tokenizer) if engine == "live" else hflm
    evaluation = Evaluation.build(tasks, scored_by_lm_eval(tasks), tokenizer=tokenizer)
    for _ in range(2):
        scores = evaluation.run(lm).scores
        for spec in SPECS:
            again = load_tasks([spec], data=data, include_path=groups)
            told = by_lm_eval(hflm, again[0].group or again[0].task, num_fewshot=spec.num_fewshot)
            assert assert_equal_scores(told["results"][spec.task], spec.task, scores) > 0


def test_prompts_are_those_of_simple_evaluate_for_chosen_samples(data: Path, tokenizer: Any, hflm: Any) -> None:
    (task,) = load_tasks([SPECS[0]], data=data)
    chosen = [1, 4, 7]
    questions = [Leaf(task).test.questions(task.name)[i] for i in chosen]
    evaluation = Evaluation.build([task], questions, tokenizer=tokenizer)
    (again,) = load_tasks([SPECS[0]], data=data)
    told = by_lm_eval(hflm, again.task, num_fewshot=2, samples={"arc_easy": chosen})
    theirs = [arguments for sample in told["samples"]["arc_easy"] for arguments in sample["arguments"]]
    assert [tuple(request.args) for one in evaluation._asked for request in one.own] == theirs


def test_chat_prompts_are_those_of_simple_evaluate(data: Path, tokenizer: Any, hflm: Any) -> None:
    options = {"apply_chat_template": True, "system_instruction": "be short", "fewshot_as_multiturn": True}
    (task,) = load_tasks([SPECS[1]], data=data)
    evaluation = Evaluation.build([task], scored_by_lm_eval([task])[:3], tokenizer=tokenizer, **options)  # type: ignore[arg-type]
    (again,) = load_tasks([SPECS[1]], data=data)
    told = by_lm_eval(hflm, again.task, num_fewshot=3, limit=3, **options)
    theirs = [sample["arguments"][0][0] for sample in told["samples"]["gsm8k"][:3]]
    assert [one.own[0].args[0] for one in evaluation._asked] == theirs
    assert "<|system|>be short" in theirs[0]


def test_blocks_put_together_are_the_whole(tasks: tuple[LoadedTask, ...], model: Any, tokenizer: Any) -> None:
    evaluation = Evaluation.build(tasks, scored_by_lm_eval(tasks), tokenizer=tokenizer, metrics="all")
    scorer = LiveScorer(model, tokenizer)
    whole = evaluation.run(scorer)
    mixed = [evaluation.questions[i] for i in np.random.default_rng(0).permutation(len(evaluation.questions))]
    parts = [evaluation.run(scorer, only=mixed[start : start + 5]) for start in range(0, len(mixed), 5)]
    merged = merge_results(parts)
    assert merged.scores.keys() == whole.scores.keys()
    for name, score in whole.scores.items():
        assert merged.scores[name].value == pytest.approx(score.value, rel=1e-6)
        assert merged.scores[name].n == score.n
    assert len(merged.answers) == len(whole.answers)
    assert merged.cost.seconds > 0


def test_likelihood_metrics_are_what_their_formulas_say(data: Path, model: Any, tokenizer: Any, hflm: Any) -> None:
    tasks = load_tasks([TaskSpec(task="arc_easy", num_fewshot=0), TaskSpec(task="gsm8k", metric=GOLD_BITS)], data=data)
    evaluation = Evaluation.build(tasks, scored_by_lm_eval(tasks), tokenizer=tokenizer)
    results = evaluation.run(LiveScorer(model, tokenizer))
    assert "gsm8k/exact_match/strict-match" not in results.scores
    arc = next(one for one in evaluation._asked if one.loaded.name == "arc_easy")
    totals = np.array([value for value, _ in hflm.loglikelihood(list(arc.own), disable_tqdm=True)])
    gold = "ABC".index(arc.doc["answerKey"])
    rows = results.answers[results.answers["question"] == arc.question.id].set_index("metric")["value"]
    assert rows["gold_prob"] == pytest.approx(np.exp(totals[gold]) / np.exp(totals).sum(), rel=1e-4)
    text = arc.doc["choices"]["text"][gold]
    assert rows[GOLD_BITS] == pytest.approx(-totals[gold] / np.log(2) / len(text.encode()), rel=1e-4)
    gsm = results.answers[results.answers["leaf"] == "gsm8k"]
    assert list(gsm["weight"]) == [len(f"the dog runs {i}\n#### {i}") for i in range(8)]
    mean = (gsm["value"] * gsm["weight"]).sum() / gsm["weight"].sum()
    assert results.scores["gsm8k/gold_bits_per_byte"].value == pytest.approx(mean)
    assert not results.scores["gsm8k/gold_bits_per_byte"].higher_is_better


def test_gold_text_follows_the_prompt_as_a_fewshot_answer_does(data: Path, tokenizer: Any) -> None:
    tasks = load_tasks([TaskSpec(task="gsm8k", metric=GOLD_BITS, num_fewshot=0)], data=data)
    evaluation = Evaluation.build(tasks, scored_by_lm_eval(tasks)[:1], tokenizer=tokenizer)
    (request,) = evaluation._asked[0].requests
    assert request.args == ("Question: test 0 runs?\nAnswer:", " the dog runs 0\n#### 0")


@pytest.mark.parametrize("shots", ["official", "fixed"])
def test_scored_questions_are_never_fewshot_examples(data: Path, tokenizer: Any, shots: str) -> None:
    tasks = load_tasks([TaskSpec(task="gsm8k", num_fewshot=5, fewshot=shots)], data=data)
    sets = draw_questions(tasks, for_search=6, for_selection=6, seed=3)
    evaluation = Evaluation.build(tasks, sets.search, tokenizer=tokenizer, keep_apart=sets.selection)
    prompts = [one.own[0].args[0] for one in evaluation._asked]
    kept = {f"train {q.index} runs?" for q in (*sets.search, *sets.selection)}
    for prompt, question in zip(prompts, evaluation.questions, strict=True):
        shown = prompt.split("Question: ")[1:]
        assert shown[-1].startswith(f"train {question.index} runs?")
        assert not {text.split("\n")[0] for text in shown[:-1]} & kept
    heads = {prompt.rsplit("Question: ", 1)[0] for prompt in prompts}
    assert (len(heads) == 1) == (shots == "fixed")


def test_test_prompts_do_not_depend_on_what_was_built_before(data: Path, tokenizer: Any) -> None:
    (task,) = load_tasks([SPECS[1]], data=data)
    questions = scored_by_lm_eval([task])
    first = [one.own[0].args for one in Evaluation.build([task], questions, tokenizer=tokenizer)._asked]
    Evaluation.build([task], draw_questions([task], for_search=4, for_selection=4).search, tokenizer=tokenizer)
    assert [one.own[0].args for one in Evaluation.build([task], questions, tokenizer=tokenizer)._asked] == first


def test_global_random_state_is_left_alone(data: Path, model: Any, tokenizer: Any) -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    expected = (random.random(), np.random.rand(), float(torch.rand(1)))  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    tasks = load_tasks([SPECS[0]], data=data)
    Evaluation.build(tasks, scored_by_lm_eval(tasks)[:2], tokenizer=tokenizer).run(LiveScorer(model, tokenizer))
    assert (random.random(), np.random.rand(), float(torch.rand(1))) == expected  # noqa: NPY002


def test_changed_data_is_found_out(data: Path, tokenizer: Any) -> None:
    tasks = load_tasks([SPECS[0]], data=data)
    other = Question("arc_easy", "test", 0, "0" * 16)
    with pytest.raises(DataError, match="test row 0 must be question 0000"):
        Evaluation.build(tasks, [other], tokenizer=tokenizer)
    with pytest.raises(TaskError, match="piqa"):
        Evaluation.build(tasks, [Question("piqa", "test", 0, "0" * 16)], tokenizer=tokenizer)


def test_nan_of_any_model_is_a_scoring_error(data: Path, tokenizer: Any) -> None:
    class Broken:
        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            return [(float("nan"), False)] * len(requests)

    tasks = load_tasks([SPECS[0]], data=data)
    evaluation = Evaluation.build(tasks, scored_by_lm_eval(tasks)[:1], tokenizer=tokenizer)
    with pytest.raises(ScoringError, match="nan"):
        evaluation.run(Broken())
