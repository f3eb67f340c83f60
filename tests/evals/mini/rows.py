"""Reads the embedded questions for the tests beside it."""

import json
import re
from pathlib import Path
from typing import Any

import evals

MINI = Path(evals.__file__).resolve().parent / "mini"
SUBJECTS = tuple(sorted(path.name for path in (MINI / "mini_mmlu").iterdir() if path.is_dir()))
CHOICE_FILES = (
    *(f"mini_arc/{part}.jsonl" for part in ("train", "validation", "test")),
    *(f"mini_mmlu/{subject}/{part}.jsonl" for subject in SUBJECTS for part in ("dev", "validation", "test")),
)

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def every_file() -> list[str]:
    """Return the path of every file of questions, relative to the suite's folder."""
    return sorted(path.relative_to(MINI).as_posix() for path in MINI.rglob("*.jsonl"))


def text_of(row: Row) -> str:
    """Return the question or the prompt of a row of any of the schemas."""
    return str(row.get("question") or row.get("prompt") or row.get("ctx") or row.get("sentence"))


def words_of(text: str) -> list[str]:
    """Return the words and numbers of a text in lower case, without punctuation."""
    return re.findall(r"[a-z0-9]+", text.lower())


def choices_of(row: Row) -> tuple[list[str], int]:
    """Return the answers of a multiple choice row and the place of the right one."""
    if "answerKey" in row:
        return row["choices"]["text"], row["choices"]["label"].index(row["answerKey"])
    return row["choices"], row["answer"]
