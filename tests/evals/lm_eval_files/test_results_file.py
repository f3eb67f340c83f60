"""lm-eval's results document and samples: equal to those of ``simple_evaluate`` on the same model and questions."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from evals.engines.live.engine import LiveScorer
from evals.evaluation import Evaluation
from evals.lm_eval_files.results_file import lm_eval_document, to_text, versions_of_libraries
from evals.lm_eval_files.samples_file import sample_lines, samples_of
from evals.scores.results import Results
from evals.tasks.loading import LoadedTask, TaskSpec, load_tasks
from evals.tasks.sampling import Leaf

OURS = ("gold_prob", "gold_bits_per_byte")
SPECS = [TaskSpec(task="arc_easy", num_fewshot=2), TaskSpec(task="gsm8k", num_fewshot=2), TaskSpec(task="pair")]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def include(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a group of two subjects of mmlu that aggregates by size."""
    folder = tmp_path_factory.mktemp("tasks")
    listed = "aggregate_metric_list:\n  - {metric: acc, weight_by_size: true}\nmetadata: {version: 2}\n"
    (folder / "pair.yaml").write_text(f"group: pair\ntask: [mmlu_anatomy, mmlu_virology]\n{listed}", encoding="utf-8")
    return folder


def loaded_tasks(data: Path, include: Path) -> tuple[LoadedTask, ...]:
    tasks = load_tasks(SPECS, data=data, include_path=include)
    for loaded in tasks:
        if loaded.name == "gsm8k":
            loaded.task.set_config("generation_kwargs", {"max_gen_toks": 4}, update=True)
    return tasks


@pytest.fixture(scope="module")
def ours(model: Any, tokenizer: Any, data: Path, include: Path) -> tuple[tuple[LoadedTask, ...], Evaluation, Results]:
    tasks = loaded_tasks(data, include)
    questions = [question for loaded in tasks for question in Leaf.of(loaded).test.questions(loaded.name)[:5]]
    evaluation = Evaluation.build(tasks, questions, tokenizer=tokenizer)
    return tasks, evaluation, evaluation.run(LiveScorer(model, tokenizer))


@pytest.fixture(scope="module")
def theirs(hflm: Any, data: Path, include: Path) -> Any:
    from lm_eval.evaluator import evaluate

    tasks = loaded_tasks(data, include)
    groups = {loaded.label: loaded.group for loaded in tasks if loaded.group is not None}
    asked = {"tasks": {loaded.name: loaded.task for loaded in tasks}, "groups": groups}
    return evaluate(hflm, asked, limit=5, bootstrap_iters=1000)


def plain(value: Any) -> Any:
    """Return what a reader of the file sees, without our own metrics and lm-eval's places of temporary files."""
    read = json.loads(to_text(value)) if isinstance(value, dict) else value
    if not isinstance(read, dict):
        return read
    return {key: plain(inner) for key, inner in read.items() if not key.startswith((*OURS, "config_source"))}


def test_the_document_is_lm_evals(ours: tuple[tuple[LoadedTask, ...], Evaluation, Results], theirs: Any) -> None:
    tasks, _, results = ours
    document = lm_eval_document(tasks, results)
    assert list(document) == [key for key in theirs if key != "samples"]
    for key in document:
        mine, stock = plain(document[key]), plain(theirs[key])
        assert mine == stock, key
    assert document["results"]["arc_easy"]["gold_prob,none"] == results.scores["arc_easy/gold_prob"].value
    assert document["results"]["pair"]["acc,none"] == results.scores["pair/acc"].value


def test_standard_errors_in_the_document_are_those_of_the_scores(
    ours: tuple[tuple[LoadedTask, ...], Evaluation, Results],
) -> None:
    tasks, _, results = ours
    entry = lm_eval_document(tasks, results)["results"]
    assert entry["arc_easy"]["acc_stderr,none"] == results.scores["arc_easy/acc"].stderr
    assert entry["pair"]["acc_stderr,none"] == results.scores["pair/acc"].stderr
    strict = "exact_match_stderr,strict-match"
    assert entry["gsm8k"][strict] == results.scores["gsm8k/exact_match/strict-match"].stderr


def test_lm_evals_own_table_reads_the_document(ours: tuple[tuple[LoadedTask, ...], Evaluation, Results]) -> None:
    from lm_eval.utils import make_table

    tasks, _, results = ours
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document = json.loads(to_text({**lm_eval_document(tasks, results), **versions_of_libraries()}))
        table = make_table(document)
        groups = make_table(document, "groups")
    assert "|arc_easy" in table
    assert "- anatomy" in table
    assert "strict-match" in table
    assert "|pair" in groups


def test_samples_are_lm_evals(ours: tuple[tuple[LoadedTask, ...], Evaluation, Results], theirs: Any) -> None:
    _, evaluation, results = ours
    samples = samples_of(evaluation, results)
    assert set(samples) == set(theirs["samples"])
    for leaf, listed in samples.items():
        for mine, stock in zip(listed, theirs["samples"][leaf], strict=True):
            assert set(stock) <= set(mine)
            for key in set(stock) - {"resps", "filtered_resps", "metrics", "acc", "acc_norm", "doc"}:
                assert mine[key] == stock[key], (leaf, key)
            assert set(stock["metrics"]) <= set(mine["metrics"])
        lines = [json.loads(line) for line in sample_lines(listed).splitlines()]
        assert {len(line["arguments"]) for line in lines} == {len(one["arguments"]) for one in listed}
        assert all(isinstance(line["target"], str) for line in lines)
