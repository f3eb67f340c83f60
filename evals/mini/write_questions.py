"""Writes the JSON Lines files of the embedded suite from the tables in `source/`.

    python -m evals.mini.write_questions [FOLDER]

The order of rows, the part a row falls in and the place of the right answer follow from a hash of the question's text
and from nothing else, so that the same tables always give the same files.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import yaml

from evals.mini.word_problems import WordProblem, write_problems

HERE = Path(__file__).resolve().parent
LETTERS = "ABCD"
GRADES = (1, 2, 3)
KWARGS = (
    "capital_frequency", "capital_relation", "end_phrase", "first_word", "forbidden_words", "frequency",
    "keyword", "keywords", "language", "let_frequency", "let_relation", "letter", "nth_paragraph",
    "num_bullets", "num_highlights", "num_paragraphs", "num_placeholders", "num_sections", "num_sentences",
    "num_words", "postscript_marker", "prompt_to_repeat", "relation", "section_spliter",
)  # fmt: skip
ORDERS = tuple(permutations(range(4)))

Row = dict[str, object]


@dataclass(frozen=True)
class ChoiceQuestion:
    """One line of a table: the right answer first, then three wrong ones."""

    field: str
    grade: int
    text: str
    answers: tuple[str, ...]

    def ordered(self, place: int) -> list[str]:
        """Return the answers with the right one at `place` and the wrong ones in hash order."""
        wrong = sorted(self.answers[1:], key=lambda answer: order_key(self.text + answer))
        return [*wrong[:place], self.answers[0], *wrong[place:]]


@dataclass(frozen=True)
class Prompt:
    """A request, the names of the instructions its answer must follow, and the arguments of each."""

    text: str
    instructions: tuple[str, ...]
    arguments: tuple[Mapping[str, object], ...]


def order_key(text: str) -> str:
    """Return what rows are sorted by: a hash of their text."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_table(path: Path) -> tuple[ChoiceQuestion, ...]:
    """Read a table of multiple choice questions, ``grade | question | right | wrong | wrong | wrong`` a line."""
    field, questions = "", []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            field = line.strip().strip("[]")
            continue
        grade, text, *answers = [cell.strip() for cell in line.split(" | ")]
        if len(answers) != len(LETTERS) or int(grade) not in GRADES:
            raise ValueError(f"{path.name}:{number}: must be a grade, a question and four answers, got {line!r}")
        questions.append(ChoiceQuestion(field, int(grade), text, tuple(answers)))
    return tuple(questions)


def places(questions: Sequence[ChoiceQuestion]) -> list[int]:
    """Return the place of the right answer for every question: each block of four uses every letter once."""
    result: list[int] = []
    for start in range(0, len(questions), len(LETTERS)):
        pick = int(order_key(questions[start].text)[:8], 16) % len(ORDERS)
        result.extend(ORDERS[pick])
    return result[: len(questions)]


def share_out(questions: Sequence[ChoiceQuestion], counts: Mapping[str, int]) -> dict[str, list[ChoiceQuestion]]:
    """Deal questions into parts of the given sizes, every field and grade in proportion; the rest is validation."""
    dealt = sorted(questions, key=lambda q: (q.field, q.grade, order_key(q.text)))
    parts: dict[str, list[ChoiceQuestion]] = {}
    for part, count in counts.items():
        chosen = {round((i + 0.5) * len(dealt) / count - 0.5) for i in range(count)}
        parts[part] = [question for i, question in enumerate(dealt) if i in chosen]
        dealt = [question for i, question in enumerate(dealt) if i not in chosen]
    parts["validation"] = dealt
    return {part: sorted(rows, key=lambda q: order_key(q.text)) for part, rows in parts.items()}


def arc_rows(part: str, questions: Sequence[ChoiceQuestion]) -> list[Row]:
    """Return rows in ARC's schema; the id tells field and grade."""
    return [
        {
            "id": f"mini-{part}-{number:03d}-{question.field}-{question.grade}",
            "question": question.text,
            "choices": {"text": question.ordered(place), "label": list(LETTERS)},
            "answerKey": LETTERS[place],
        }
        for number, (question, place) in enumerate(zip(questions, places(questions), strict=True))
    ]


def mmlu_rows(questions: Sequence[ChoiceQuestion]) -> list[Row]:
    """Return rows in MMLU's schema."""
    return [
        {"question": question.text, "subject": question.field, "choices": question.ordered(place), "answer": place}
        for question, place in zip(questions, places(questions), strict=True)
    ]


def gsm8k_rows(problems: Iterable[WordProblem]) -> list[Row]:
    """Return rows in GSM8K's schema."""
    return [{"question": problem.question, "answer": problem.answer} for problem in problems]


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read the prompts with their instructions: the checkers' names and arguments."""
    return tuple(
        Prompt(entry["prompt"], tuple(entry["follow"]), tuple(entry["follow"].values()))
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
    )


def share_prompts(prompts: Iterable[Prompt]) -> dict[str, list[Prompt]]:
    """Deal prompts so that every part holds every kind of instruction: one of a kind to train, then turn by turn.

    A part without a kind would hold nulls only in that kind's argument, and the `datasets` library, which takes the
    types of all parts from the first, could not load the others.
    """
    kinds: dict[str, list[Prompt]] = {}
    for prompt in sorted(prompts, key=lambda prompt: order_key(prompt.text)):
        kinds.setdefault(prompt.instructions[0], []).append(prompt)
    parts: dict[str, list[Prompt]] = {"train": [], "validation": [], "test": []}
    for kind in sorted(kinds):
        first, *rest = kinds[kind]
        parts["train"].append(first)
        for prompt in rest:
            parts["test" if len(parts["test"]) <= len(parts["validation"]) else "validation"].append(prompt)
    return {part: sorted(dealt, key=lambda prompt: order_key(prompt.text)) for part, dealt in parts.items()}


def ifeval_rows(prompts: Sequence[Prompt], first_key: int) -> list[Row]:
    """Return rows in IFEval's schema: every known argument present, null where it does not apply."""
    return [
        {
            "key": key,
            "prompt": prompt.text,
            "instruction_id_list": list(prompt.instructions),
            "kwargs": [dict.fromkeys(KWARGS) | dict(arguments) for arguments in prompt.arguments],
        }
        for key, prompt in enumerate(prompts, start=first_key)
    ]


def files() -> dict[str, list[Row]]:
    """Return every file of the suite: path relative to this folder, and rows."""
    result: dict[str, list[Row]] = {}
    science = share_out(read_table(HERE / "source" / "science.txt"), {"test": 144, "train": 12})
    for part, questions in science.items():
        result[f"mini_arc/{part}.jsonl"] = arc_rows(part, questions)
    subjects = read_table(HERE / "source" / "subjects.txt")
    for subject in sorted({question.field for question in subjects}):
        mine = [question for question in subjects if question.field == subject]
        for part, questions in share_out(mine, {"test": 15, "dev": 5}).items():
            result[f"mini_mmlu/{subject}/{part}.jsonl"] = mmlu_rows(questions)
    for part, problems in write_problems(order_key).items():
        result[f"mini_gsm8k/{part}.jsonl"] = gsm8k_rows(problems)
    key = 1
    for part, prompts in share_prompts(read_prompts(HERE / "source" / "instructions.yaml")).items():
        result[f"mini_ifeval/{part}.jsonl"] = ifeval_rows(prompts, key)
        key += len(prompts)
    return result


def write(folder: Path) -> None:
    """Write every file below `folder`."""
    for name, rows in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if sys.argv[1:] else HERE)
