"""Study files: what is accepted, and one line per fault with its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.running.overrides import Overrides
from search.errors import StudyError
from search.study.study import LoadedStudy, differences, load_study, parse_study

GOOD: dict[str, Any] = {
    "study": "s",
    "families": {
        "ties": {
            "merge_method": "ties",
            "base_model": "base",
            "models": [
                {"model": "a", "parameters": {"weight": {"low": 0.1, "high": 1.0}}},
                {"model": "b", "parameters": {"weight": 0.5}},
            ],
        }
    },
    "evaluate": {"tasks": [{"task": "arc_easy", "metric": "acc_norm"}]},
}


def changed(path: str, value: object) -> str:
    document: Any = yaml.safe_load(yaml.safe_dump(GOOD))
    node = document
    *inside, last = path.split(".")
    for key in inside:
        node = node[int(key) if key.isdigit() else key]
    node[last] = value
    return yaml.safe_dump(document)


def test_a_good_study_is_read_with_its_defaults() -> None:
    study = parse_study(yaml.safe_dump(GOOD), place="study.yaml")
    assert study.file.search.trials == 100
    assert [d.name for d in study.space.families["ties"].dimensions] == ["models.a.weight"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("search", {"trails": 5}, "study.yaml: search.trails: unknown key; did you mean 'trials'?"),
        ("search", {"trials": -1}, "study.yaml: search.trials:"),
        ("search", {"sampler": "anneal"}, "sampler must be one of auto,"),
        ("search", {"race_level": 0.7}, "study.yaml: search.race_level:"),
        ("evaluate.questions", {"search": 0}, "study.yaml: evaluate.questions.search"),
        ("evaluate.suite", "core", "exactly one of tasks and suite"),
        (
            "evaluate.tasks",
            [{"task": "x", "metrik": "acc"}],
            "evaluate.tasks[0].metrik: unknown key; did you mean 'metric'?",
        ),
        ("evaluate.tasks", [{"task": "x"}, {"task": "x"}], "task 'x' is listed twice"),
        ("study", "../up", "study.yaml: study:"),
        ("families", {}, "study.yaml: families:"),
        ("families.ties.models.0.parameters.weight.low", 2.0, "low <= high must hold, got low=2, high=1"),
        ("families.ties.densityy", 1, "families.ties.densityy: unknown key"),
        ("families.ties.merge_method", "tys", "did you mean 'ties'"),
        ("families.ties.base_model", None, "base_model"),
    ],
)
def test_a_fault_is_one_line_with_its_place(path: str, value: object, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_study(changed(path, value), place="study.yaml")
    assert words in str(caught.value)
    assert all(line.startswith("study.yaml") for line in str(caught.value).splitlines())


def test_all_faults_of_all_families_are_told_at_once() -> None:
    document: Any = yaml.safe_load(yaml.safe_dump(GOOD))
    bad = {**document["families"]["ties"], "merge_method": "nope"}
    document["families"] = {"one": bad, "two": bad}
    with pytest.raises(StudyError) as caught:
        LoadedStudy(document, place="study.yaml")
    assert "families.one" in str(caught.value)
    assert "families.two" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "{", "!!python/object/apply:os.system ['true']", "a: b: c"])
def test_what_is_no_study_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_study(text, place="study.yaml")
    assert "\n" not in str(caught.value)


def test_only_the_budget_may_change_without_making_another_study() -> None:
    study = parse_study(yaml.safe_dump(GOOD), place="s")
    larger = parse_study(changed("search", {"trials": 7, "finalists": 5, "max_hours": 1.0}), place="s")
    other = parse_study(changed("search", {"seed": 7}), place="s")
    assert study.digest() == larger.digest()
    assert study.digest() != other.digest()
    assert list(differences(study.identity(), other.identity())) == ["search.seed: 0 -> 7"]


def test_the_command_line_changes_the_budget_of_a_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    told = Overrides(trials=9, max_hours=0.5, patience=4, workers=2).apply(file)
    section = told.file.search
    assert (section.trials, section.max_hours, section.patience, section.workers) == (9, 0.5, 4, 2)
    assert told.digest() == Overrides().apply(file).digest() == load_study(file).digest()
    assert Overrides(data=str(tmp_path)).apply(file).file.evaluate.data == str(tmp_path.resolve())
