"""Suites: every file loads, every name is known, averages and normalisation as their sources published them."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from evals.errors import TaskError
from evals.scores.results import Cost, Results, Score
from evals.suites import Suite, load_suite, suite_names
from evals.tasks.index import index_folder, lm_eval_folder, read_yaml
from evals.tasks.loading import MINI

# Rows of the data set open-llm-leaderboard/contents: raw (0 to 1) and normalised (percent) as published, first of GPQA,
# MuSR and MMLU-Pro, then of IFEval and MATH level 5; BBH and the average, normalised alone.
PUBLISHED = {
    "0-hero/Matter-0.2-7B-DPO": (
        {"gpqa": 0.25922818791946306, "musr": 0.381375, "mmlu_pro": 0.1163563829787234},
        {"gpqa": 1.230425055928408, "musr": 5.871874999999999, "mmlu_pro": 1.8173758865248217},
        (33.02792147058693, 1.4350453172205437, 10.055525080241035, 8.90636130175029),
    ),
    "01-ai/Yi-1.5-34B": (
        {"gpqa": 0.36577181208053694, "musr": 0.4236041666666667, "mmlu_pro": 0.4665890957446808},
        {"gpqa": 15.436241610738257, "musr": 11.217187500000003, "mmlu_pro": 40.732121749408975},
        (28.411725333226947, 15.332326283987916, 42.74936268839652, 25.64649419429311),
    ),
    "01-ai/Yi-1.5-34B-Chat": (
        {"gpqa": 0.3649328859060403, "musr": 0.4281979166666667, "mmlu_pro": 0.45204454787234044},
        {"gpqa": 15.324384787472036, "musr": 13.058072916666665, "mmlu_pro": 39.11606087470449},
        (60.66758423205982, 27.719033232628398, 44.262825981005655, 33.35799367075618),
    ),
    "01-ai/Yi-1.5-6B": (
        {"gpqa": 0.313758389261745, "musr": 0.43740625, "mmlu_pro": 0.31441156914893614},
        {"gpqa": 8.501118568232664, "musr": 13.309114583333335, "mmlu_pro": 23.823507683215126},
        (26.166017278598567, 6.646525679758309, 22.027904536694773, 16.745698054972127),
    ),
}
SHOTS = {
    "open-llm-v1": {
        "arc_challenge": 25, "hellaswag": 10, "mmlu": 5, "truthfulqa_mc2": 0, "winogrande": 5, "gsm8k": 5,
    },
    "open-llm-v2": {
        "leaderboard_ifeval": 0, "leaderboard_bbh": 3, "leaderboard_math_hard": 4, "leaderboard_gpqa": 0,
        "leaderboard_musr": 0, "leaderboard_mmlu_pro": 5,
    },
}  # fmt: skip
"""Examples in a prompt as the boards' own pages say."""
MUSR_ROWS = {"murder_mysteries": 250, "object_placements": 256, "team_allocation": 250}
# EleutherAI/pythia-12b: right answers in percent, or their number where not of 250, per subtask of BBH, in the order of
# the names (data set open-llm-leaderboard/EleutherAI__pythia-12b-details), and the board's row of it, written down from
# memory: no page that prints it was at hand.
PYTHIA_BBH = (
    66.8, 99 / 1.87, 16.0, 33.6, 47.6, 10.4, 48.4, 19.2, 14.8, 34.4, 28.8, 46.8,
    27.2, 33 / 1.46, 17.2, 28.4, 22.0, 74 / 1.78, 46.0, 26.8, 17.2, 13.2, 32.4, 48.8,
)  # fmt: skip
PYTHIA = {"leaderboard_ifeval": 24.71, "leaderboard_bbh": 4.99, "leaderboard_musr": 3.79, "leaderboard_mmlu_pro": 1.21}
OPENCHAT = {"ifeval": 59.61, "bbh": 24.06, "math_hard": 6.80, "gpqa": 7.61, "musr": 11.78, "mmlu_pro": 25.44}


def results_of(suite: Suite, values: Mapping[str, float], leaves: Mapping[str, Mapping[str, float]] = {}) -> Results:
    """Return results in which every task has its value, or a question each for its leaves."""
    keys = [(s.task, m) for s in suite.tasks for m in suite.metrics.get(s.task, (str(s.metric),))]
    scores = {f"{task}/{metric}": Score(values[task], 0.01, 1, True) for task, metric in keys if task in values}
    rows = [
        (task, leaf, str(i), metric, value, 1.0)
        for task, metric in keys
        for leaf, value in leaves.get(task, {task: values.get(task, 0.0)}).items()
        for i in range(2)
    ]
    answers = pd.DataFrame(rows, columns=["task", "leaf", "question", "metric", "value", "weight"])
    return Results(answers, scores, Cost())


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_names_known_tasks(name: str) -> None:
    suite = load_suite(name)
    known = index_folder(lm_eval_folder() / "tasks").names | index_folder(MINI).names
    tasks = {spec.task for spec in suite.tasks}
    assert tasks <= known
    assert all(spec.metric for spec in suite.tasks)
    assert set(suite.names) | set(suite.metrics) | set(suite.leaf_means) <= tasks
    assert not suite.categories or {label for labels in suite.categories.values() for label in labels} == tasks
    assert len(suite.about) < 120, "it is one line of `list suites`"


def shots_in(file: Path) -> int | None:
    """Return the number of examples that a task's file asks for, its own or an included one's."""
    document = read_yaml(file)
    if "num_fewshot" in document:
        return int(str(document["num_fewshot"]))
    included = document.get("include")
    return None if included is None else shots_in(file.parent / str(included))


@pytest.mark.parametrize("name", SHOTS)
def test_prompts_have_as_many_examples_as_the_board_gave(name: str) -> None:
    index = index_folder(lm_eval_folder() / "tasks")
    for spec in load_suite(name).tasks:
        leaves = [file for file in index.collect(spec.task).values() if "group" not in read_yaml(file)]
        own = {shots_in(file) for file in leaves}
        asked = {own_shots if own_shots == 0 or spec.num_fewshot is None else spec.num_fewshot for own_shots in own}
        assert {shots or 0 for shots in asked} == {SHOTS[name][spec.task]}, spec.task


def test_an_unknown_suite_is_named_with_the_nearest() -> None:
    with pytest.raises(TaskError, match="did you mean 'open-llm-v1'"):
        load_suite("open-llm-1")


@pytest.mark.parametrize("name", ["open-llm-v1", "nous", "core", "biomed", "mini"])
def test_a_plain_average_of_equal_scores_is_that_score(name: str) -> None:
    suite = load_suite(name)
    assert suite.average(results_of(suite, {spec.task: 0.6 for spec in suite.tasks})) == pytest.approx(0.6)


@pytest.mark.parametrize("model", PUBLISHED)
def test_scores_of_one_task_are_normalised_as_published(model: str) -> None:
    suite = load_suite("open-llm-v2")
    raw, normalised, _ = PUBLISHED[model]
    single = {f"leaderboard_{name}": value for name, value in raw.items() if name != "musr"}
    shown = suite.only(list(single)).shown(results_of(suite, single))
    assert {name: 100 * value for name, value in shown.items()} == pytest.approx(
        {f"leaderboard_{name}": value for name, value in normalised.items() if name != "musr"}
    )


@pytest.mark.parametrize("model", PUBLISHED)
def test_musr_is_normalised_by_subtask_as_published(model: str) -> None:
    """Some whole numbers of right answers must give both published figures; no other chance levels tried do."""
    suite = load_suite("open-llm-v2").only(["leaderboard_musr"])
    raw, normalised, _ = PUBLISHED[model]
    found = 0
    sizes = tuple(MUSR_ROWS.values())
    for first, second in itertools.product(range(sizes[0] + 1), range(sizes[1] + 1)):
        rest = round((3 * raw["musr"] - first / sizes[0] - second / sizes[1]) * sizes[2])
        right = (first, second, rest)
        values = [count / size for count, size in zip(right, sizes, strict=True)]
        if not 0 <= rest <= sizes[2] or abs(sum(values) / 3 - raw["musr"]) > 1e-9:
            continue
        leaves = {f"leaderboard_musr_{name}": value for name, value in zip(MUSR_ROWS, values, strict=True)}
        shown = suite.shown(results_of(suite, {"leaderboard_musr": 0.0}, {"leaderboard_musr": leaves}))
        found += math.isclose(100 * shown["leaderboard_musr"], normalised["musr"], rel_tol=1e-9)
    assert found


def test_bbh_and_the_others_of_one_model_are_normalised_by_subtask_as_published() -> None:
    suite, musr = load_suite("open-llm-v2").only(list(PYTHIA)), (0.528, 63 / 256, 0.32)
    names = sorted(name for name in suite.choices if name.startswith("leaderboard_bbh_"))
    leaves = {
        "leaderboard_bbh": {name: value / 100 for name, value in zip(names, PYTHIA_BBH, strict=True)},
        "leaderboard_musr": dict(zip((f"leaderboard_musr_{name}" for name in MUSR_ROWS), musr, strict=True)),
        "leaderboard_mmlu_pro": {"leaderboard_mmlu_pro": 0.11087101063829788},
    }
    values = dict.fromkeys(PYTHIA, 0.11087101063829788)
    results = results_of(suite, values, leaves)
    for metric, value in (("prompt", 0.18853974121996303), ("inst", 0.3057553956834532)):
        results.scores[f"leaderboard_ifeval/{metric}_level_strict_acc"] = Score(value, 0.01, 541, True)
    shown = {name: round(100 * value, 2) for name, value in suite.shown(results).items()}
    assert shown == pytest.approx(PYTHIA)


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_average_of_the_normalised_scores_is_the_published_one(model: str) -> None:
    suite = load_suite("open-llm-v2")
    _, normalised, (ifeval, math_hard, bbh, average) = PUBLISHED[model]
    given = {**normalised, "ifeval": ifeval, "math_hard": math_hard, "bbh": bbh}
    plain = {f"leaderboard_{name}": value / 100 for name, value in given.items()}
    assert 100 * unnormalised(suite).average(results_of(suite, plain)) == pytest.approx(average)


def test_openchats_published_average_is_that_of_its_scores() -> None:
    suite = load_suite("open-llm-v2")
    plain = {f"leaderboard_{name}": value / 100 for name, value in OPENCHAT.items()}
    assert 100 * unnormalised(suite).average(results_of(suite, plain)) == pytest.approx(22.55, abs=0.005)


def unnormalised(suite: Suite) -> Suite:
    fields = {**vars(suite), "choices": {}, "metrics": {}}
    return Suite(**fields)


def test_the_documentations_example_of_subtasks_comes_out() -> None:
    suite = load_suite("open-llm-v2").only(["leaderboard_musr"])
    leaves = dict(zip((f"leaderboard_musr_{name}" for name in MUSR_ROWS), (0.7, 0.4, 0.6), strict=True))
    shown = suite.shown(results_of(suite, {"leaderboard_musr": 0.0}, {"leaderboard_musr": leaves}))
    assert 100 * shown["leaderboard_musr"] == pytest.approx(35.0, abs=0.01)
    low = dict.fromkeys(leaves, 0.1)
    assert suite.shown(results_of(suite, {"leaderboard_musr": 0.0}, {"leaderboard_musr": low})) == {
        "leaderboard_musr": 0.0
    }


def test_the_chance_levels_of_bbh_are_those_of_its_tasks() -> None:
    suite = load_suite("open-llm-v2")
    index = index_folder(lm_eval_folder() / "tasks")
    leaves = [name for name in index.collect("leaderboard_bbh") if name != "leaderboard_bbh"]
    assert len(leaves) == 24
    for leaf in leaves:
        choices = read_yaml(index.files[leaf])["doc_to_choice"]
        assert isinstance(choices, list)
        assert suite.choices[leaf] == len(choices)


def test_the_average_of_nous_is_the_published_one() -> None:
    """Mistral-7B-Instruct-v0.2 as published in a gist of LLM AutoEval: four categories and their average."""
    suite = load_suite("nous")
    agieval = (22.83, 37.17, 20.43, 38.04, 50.19, 67.96, 40.78, 34.09)
    gpt4all = {
        "arc_challenge": 55.97,
        "arc_easy": 76.60,
        "boolq": 85.38,
        "hellaswag": 83.69,
        "openbookqa": 45.40,
        "piqa": 80.69,
        "winogrande": 73.95,
        "truthfulqa_mc2": 66.88,
    }
    values = {spec.task: 42.22 for spec in suite.tasks} | gpt4all
    leaves = {"agieval_nous": {f"agieval_{i}": value for i, value in enumerate(agieval)}}
    results = results_of(suite, values, leaves)
    shown = {name: row.value for name, row in suite.category_rows(results).items()}
    assert shown == pytest.approx(
        {"AGIEval": 38.94, "GPT4All": 71.67, "TruthfulQA": 66.88, "BigBench": 42.22}, abs=5e-3
    )
    assert suite.average(results) == pytest.approx(54.93, abs=5e-3)


def test_standard_errors_are_those_of_independent_means() -> None:
    suite = load_suite("open-llm-v1")
    results = results_of(suite, {spec.task: 0.6 for spec in suite.tasks})
    rows = suite.task_rows(results)
    assert rows["hellaswag"].stderr == 0.01
    errors = [row.stderr or 0.0 for row in rows.values()]
    assert suite.average_row(results).stderr == pytest.approx(math.sqrt(sum(error**2 for error in errors)) / 6)
    gpqa = load_suite("open-llm-v2").only(["leaderboard_gpqa"])
    assert gpqa.task_rows(results_of(gpqa, {"leaderboard_gpqa": 0.5}))["leaderboard_gpqa"].stderr == pytest.approx(
        0.01 / 0.75
    )


def test_a_part_of_a_suite_says_so() -> None:
    part = load_suite("nous").only(["arc_easy", "piqa"])
    assert [spec.task for spec in part.tasks] == ["arc_easy", "piqa"]
    assert part.categories == {"GPT4All": ("arc_easy", "piqa")}
    assert len(part.left_out) == len(load_suite("nous").tasks) - 2
    with pytest.raises(TaskError, match=r"suite core: tasks must be among arc_challenge.*got hellaswag"):
        load_suite("core").only(["hellaswag"])
    with pytest.raises(TaskError, match="mini_arc"):
        load_suite("mini").average(results_of(load_suite("mini"), {}))
