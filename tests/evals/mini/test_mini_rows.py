"""Every row of the embedded suite: schema, size, no repeats, no favoured answer, nothing taken from a benchmark."""

import json
from collections import Counter
from pathlib import Path

import pytest

from evals.mini.write_questions import files, read_table, share_out
from tests.evals.mini.rows import (
    CHOICE_FILES,
    MINI,
    SUBJECTS,
    choices_of,
    every_file,
    read,
    text_of,
    words_of,
)

LONGEST_SHARED_RUN = 9  # words: longer runs than this may not stand in a benchmark too
CHI_SQUARE_3 = 7.815  # 95 % point, three degrees of freedom
SCHEMAS = {
    "mini_arc": {"id", "question", "choices", "answerKey"},
    "mini_gsm8k": {"question", "answer"},
    "mini_mmlu": {"question", "subject", "choices", "answer"},
    "mini_ifeval": {"key", "prompt", "instruction_id_list", "kwargs"},
}
REAL = {
    "mini_arc": "arc_easy/test.jsonl",
    "mini_gsm8k": "gsm8k/test.jsonl",
    "mini_mmlu": "mmlu/anatomy/test.jsonl",
    "mini_ifeval": "ifeval/train.jsonl",
}
LEAST = {
    ("mini_arc", "train"): 10,
    ("mini_arc", "validation"): 240,
    ("mini_arc", "test"): 140,
    ("mini_gsm8k", "train"): 10,
    ("mini_gsm8k", "validation"): 170,
    ("mini_gsm8k", "test"): 120,
    ("mini_mmlu", "dev"): 50,
    ("mini_mmlu", "validation"): 100,
    ("mini_mmlu", "test"): 150,
    ("mini_ifeval", "train"): 25,
    ("mini_ifeval", "validation"): 40,
    ("mini_ifeval", "test"): 40,
}


def test_the_files_are_what_the_tables_give() -> None:
    expected = {name: [json.dumps(row) for row in rows] for name, rows in files().items()}
    assert {name: [json.dumps(row) for row in read(MINI / name)] for name in every_file()} == expected


@pytest.mark.parametrize("task_and_part", LEAST, ids="/".join)
def test_every_part_has_its_size(task_and_part: tuple[str, str]) -> None:
    task, part = task_and_part
    found = [name for name in every_file() if name.startswith(f"{task}/") and Path(name).stem == part]
    assert sum(len(read(MINI / name)) for name in found) >= LEAST[task_and_part]


def test_every_subject_has_five_examples_and_enough_test_questions() -> None:
    assert len(SUBJECTS) >= 8
    for subject in SUBJECTS:
        sizes = {part: len(read(MINI / "mini_mmlu" / subject / f"{part}.jsonl")) for part in ("dev", "test")}
        assert sizes["dev"] == 5
        assert sizes["test"] >= 15


@pytest.mark.parametrize("name", every_file())
def test_rows_have_exactly_the_keys_of_the_schema(name: str) -> None:
    assert {frozenset(row) for row in read(MINI / name)} == {frozenset(SCHEMAS[name.split("/")[0]])}


@pytest.mark.parametrize("task", SCHEMAS)
def test_the_schema_is_the_real_one(task: str, benchmark_data: Path) -> None:
    assert set(read(benchmark_data / REAL[task])[0]) == SCHEMAS[task]


def test_no_question_stands_twice() -> None:
    counts = Counter(" ".join(words_of(text_of(row))) for name in every_file() for row in read(MINI / name))
    assert [text for text, count in counts.items() if count > 1] == []


def test_ids_and_keys_are_unique() -> None:
    for task, key in (("mini_arc", "id"), ("mini_ifeval", "key")):
        seen = [row[key] for path in (MINI / task).glob("*.jsonl") for row in read(path)]
        assert len(seen) == len(set(seen))


@pytest.mark.parametrize("name", CHOICE_FILES)
def test_four_different_answers_one_of_them_right(name: str) -> None:
    for row in read(MINI / name):
        choices, right = choices_of(row)
        assert 0 <= right < len(choices) == 4
        assert all(choice.strip() for choice in choices)
        assert len({choice.lower().strip(" .") for choice in choices}) == 4, row


@pytest.mark.parametrize("name", CHOICE_FILES)
def test_no_place_is_favoured_in_a_file(name: str) -> None:
    places = Counter(choices_of(row)[1] for row in read(MINI / name))
    assert max(places[i] for i in range(4)) - min(places[i] for i in range(4)) <= 2


@pytest.mark.parametrize("task", ["mini_arc", "mini_mmlu"])
def test_no_place_is_favoured_in_a_part(task: str) -> None:
    for part in {Path(name).stem for name in CHOICE_FILES if name.startswith(task)}:
        chosen = [name for name in CHOICE_FILES if name.startswith(task) and Path(name).stem == part]
        places = Counter(choices_of(row)[1] for name in chosen for row in read(MINI / name))
        expected = sum(places.values()) / 4
        assert sum((places[i] - expected) ** 2 / expected for i in range(4)) < CHI_SQUARE_3, (part, places)


@pytest.mark.parametrize("task", ["mini_arc", "mini_mmlu"])
def test_length_does_not_give_the_answer_away(task: str) -> None:
    longest = []
    for name in CHOICE_FILES:
        for choices, right in map(choices_of, read(MINI / name) if name.startswith(task) else []):
            others = [len(choice) for i, choice in enumerate(choices) if i != right]
            longest.append(len(choices[right]) > max(others))
    assert sum(longest) / len(longest) < 0.36


def test_test_and_validation_hold_every_field_and_grade_alike() -> None:
    parts = share_out(read_table(MINI / "source" / "science.txt"), {"test": 144, "train": 12})
    kinds = {(q.field, q.grade) for questions in parts.values() for q in questions}
    for part in ("test", "validation"):
        counts = Counter((q.field, q.grade) for q in parts[part])
        assert set(counts) == kinds
        assert min(counts.values()) >= 4


def test_nothing_is_taken_from_a_benchmark(benchmark_data: Path) -> None:
    known: set[str] = set()
    for path in benchmark_data.rglob("*.jsonl"):
        for row in read(path):
            words = words_of(text_of(row))
            known.add(" ".join(words))
            known.update(runs_of(words))
    for name in every_file():
        for row in read(MINI / name):
            words = words_of(text_of(row))
            assert not known.intersection([" ".join(words), *runs_of(words)]), row


def runs_of(words: list[str]) -> list[str]:
    """Return every run of words that is too long to be shared by chance."""
    return [" ".join(words[i : i + LONGEST_SHARED_RUN + 1]) for i in range(len(words) - LONGEST_SHARED_RUN)]
