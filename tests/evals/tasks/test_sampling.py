"""Question sets: disjoint, seeded, never few-shot rows."""

from pathlib import Path

import pytest

from evals.errors import DataError
from evals.tasks.loading import LoadedTask, TaskSpec, load_tasks
from evals.tasks.sampling import Leaf, Question, QuestionSets, draw_questions, refuse_search_on_test
from tests.evals.conftest import arc_rows, write_rows


def test_sets_are_disjoint_and_come_from_the_right_splits(data: Path) -> None:
    tasks = load_tasks([TaskSpec(task="arc_easy", num_fewshot=3), TaskSpec(task="gsm8k", num_fewshot=3)], data=data)
    sets = draw_questions(tasks, for_search=8, for_selection=7, for_test="all", seed=1)
    assert [len(part) for part in (sets.search, sets.selection, sets.test)] == [16, 14, 18]
    ids = [{(q.task, q.id) for q in part} for part in (sets.search, sets.selection, sets.test)]
    assert not ids[0] & ids[1] | ids[0] & ids[2] | ids[1] & ids[2]
    assert {q.split for q in sets.test} == {"test"}
    assert {q.split for q in (*sets.search, *sets.selection) if q.task == "gsm8k"} == {"training"}
    arc = [q.split for q in (*sets.search, *sets.selection) if q.task == "arc_easy"]
    assert arc.count("validation") == 12, "validation rows are used up before training rows"


def test_the_seed_decides(data: Path) -> None:
    tasks = load_tasks([TaskSpec(task="gsm8k", num_fewshot=3)], data=data)
    first, again, other = (draw_questions(tasks, for_search=5, for_selection=5, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.digest() == again.digest() != other.digest()
    assert QuestionSets.from_json(first.to_json()) == first


def test_a_group_is_stratified_and_its_shown_rows_are_left_out(data: Path) -> None:
    tasks = load_tasks(
        [TaskSpec(task="mmlu_anatomy", num_fewshot=5), TaskSpec(task="mmlu_virology", num_fewshot=5)], data=data
    )
    sets = draw_questions(tasks, for_search=2, for_selection=2, for_test=1, seed=0)
    for part, count in ((sets.search, 2), (sets.selection, 2), (sets.test, 1)):
        assert [q.task for q in part] == ["mmlu_anatomy"] * count + ["mmlu_virology"] * count
    assert {q.split for q in sets.search} == {"test"}, "mmlu has no rows that are not scored"


def test_too_few_rows_say_the_numbers(data: Path) -> None:
    tasks = load_tasks([TaskSpec(task="gsm8k", num_fewshot=5)], data=data)
    with pytest.raises(DataError, match=r"gsm8k: must have 10 search and 10 selection .* got 14"):
        draw_questions(tasks, for_search=10, for_selection=10)
    with pytest.raises(DataError, match="must have 9 test questions, got 8"):
        draw_questions(tasks, for_search=1, for_selection=1, for_test=9)
    assert len(draw_questions(tasks, for_search="all", for_selection=4).search) == 10


def test_a_row_that_stands_in_the_test_split_too_is_not_drawn(tmp_path: Path) -> None:
    test = arc_rows("test", 6)
    repeated = [row | {"question": row["question"].upper() + " "} for row in test]
    write_rows(tmp_path / "arc_easy" / "train.jsonl", [*repeated, *arc_rows("train", 8)])
    write_rows(tmp_path / "arc_easy" / "validation.jsonl", repeated[:2])
    write_rows(tmp_path / "arc_easy" / "test.jsonl", [*test, test[0]])
    tasks = load_tasks([TaskSpec(task="arc_easy", num_fewshot=0)], data=tmp_path)
    sets = draw_questions(tasks, for_search="all", for_selection="all", for_test="all")
    assert len(sets.search) + len(sets.selection) == 8
    assert len({q.id for q in sets.test}) == 7, "a repeated test row keeps an id of its own"


def test_ids_tell_content_not_place(tmp_path: Path, data: Path) -> None:
    write_rows(tmp_path / "arc_easy" / "test.jsonl", arc_rows("test", 10)[::-1])
    ours, theirs = (
        Leaf(load_tasks([TaskSpec(task="arc_easy", num_fewshot=0)], data=folder)[0]).test.ids
        for folder in (data, tmp_path)
    )
    assert ours == theirs[::-1]


def test_a_searched_question_is_no_test_question_unless_it_is_said(data: Path) -> None:
    tasks = load_tasks([TaskSpec(task="gsm8k", num_fewshot=2), TaskSpec(task="mmlu_anatomy", num_fewshot=2)], data=data)
    clean = draw_questions(tasks, for_search=2, for_selection=1, seed=0)
    refuse_search_on_test(clean, place="study.yaml")
    told = draw_questions(tasks, for_search=2, for_selection=1, seed=0, search_on_test=True)
    assert {question.split for question in (*told.search, *told.selection)} == {"test"}
    assert len(told.test) == 8 + 6, "the test stays whole"
    assert not set(told.search) & set(told.selection)
    assert told == draw_questions(tasks, for_search=2, for_selection=1, seed=0, search_on_test=True)
    with pytest.raises(DataError) as refused:
        refuse_search_on_test(told, place="study.yaml")
    message = str(refused.value)
    assert "study.yaml: must not search on test questions, got 6" in message
    assert f"gsm8k test[{told.search[0].index}] {told.search[0].id}" in message
    assert "and 1 more" in message
    assert "--search-on-test" in message


def test_the_guard_goes_by_content_not_by_place(data: Path) -> None:
    (task,) = load_tasks([TaskSpec(task="gsm8k", num_fewshot=2)], data=data)
    sets = draw_questions([task], for_search=2, for_selection=1, seed=0)
    moved = Question("other_task", "training", 99, sets.test[0].id)
    tampered = QuestionSets((*sets.search, moved), sets.selection, sets.test)
    with pytest.raises(DataError, match=r"got 1: other_task training\[99\]"):
        refuse_search_on_test(tampered, place="store")


REAL = [
    TaskSpec(task="arc_challenge", num_fewshot=25),
    TaskSpec(task="winogrande", num_fewshot=5),
    TaskSpec(task="gsm8k", num_fewshot=5),
    TaskSpec(task="mmlu_anatomy", num_fewshot=5),
]


@pytest.mark.slow
def test_real_few_shot_examples_are_never_scored_questions(benchmark_data: Path) -> None:
    from evals.evaluation import Evaluation

    tasks = load_tasks(REAL, data=benchmark_data)
    sets = draw_questions(tasks, for_search=6, for_selection=6, for_test=4, seed=3)
    refuse_search_on_test(sets, place="study.yaml")
    scored = (*sets.search, *sets.selection, *sets.test)
    by_leaf = {task.name: task for task in tasks}
    for part in (sets.search, sets.selection, sets.test):
        others = [question for question in scored if question not in set(part)]
        built = Evaluation.build(tasks, part, tokenizer=None, keep_apart=others)
        for one in built.asked:
            name = one.question.task
            told = {
                plain(by_leaf[name], Leaf.of(by_leaf[name]).split(other.split).docs[other.index])
                for other in scored
                if other.task == name and other != one.question
            }
            shown = " ".join(str(one.own[0].args[0]).split())
            assert not [text for text in told if text in shown], f"{name}: a scored question stands in a prompt"


def plain(task: LoadedTask, doc: object) -> str:
    """Return what is asked, as it would stand in a prompt."""
    asked = task.task.doc_to_text(doc)
    if not isinstance(asked, str):
        asked = str(doc["sentence"]).split("_")[0]  # type: ignore[index]
    return " ".join(asked.split())
