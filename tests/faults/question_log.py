"""A log of every question that is asked, which outlives its process, and what must hold of it after kills."""

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Key = tuple[str, str]
"""Part and digest of a recipe."""


@dataclass(frozen=True)
class Asked:
    """A block of questions that a candidate was asked.

    Attributes:
        run: Number of the leading process, counted from 1.
        pid: The process that scored.
        number: Number of the trial, below zero for others.
        key: Part and digest of the recipe.
        questions: The questions.
    """

    run: int
    pid: int
    number: int
    key: Key
    questions: tuple[str, ...]


@dataclass
class QuestionLog:
    """Writes down what is asked before it is asked, in one call of the operating system, which keeps it."""

    path: Path
    run: int = 1
    job: Any = None
    heard: Callable[[], None] = lambda: None
    handle: int = field(init=False)

    def __post_init__(self) -> None:
        self.handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def begin(self, job: Any) -> None:
        """Hear which job the next questions are of."""
        self.job = job

    def asks(self, questions: Sequence[Any]) -> None:
        """Write down a block of questions."""
        facts = {"run": self.run, "pid": os.getpid(), "number": self.job.number, "part": self.job.part}
        names = [question.id for question in questions]
        line = json.dumps({**facts, "digest": self.job.digest(), "questions": names})
        os.write(self.handle, f"\n{line}\n".encode())
        self.heard()


def log_questions(log: QuestionLog) -> None:
    """Have the scorer of this process write down what it asks."""
    from evals.evaluation import Evaluation
    from search.scoring.candidate_scorer import CandidateScorer

    score, run = CandidateScorer.score, Evaluation.run

    def scored(self: Any, job: Any, between: Any = None) -> Any:
        log.begin(job)
        return score(self, job, between)

    def asked(self: Any, lm: Any, only: Any = None) -> Any:
        log.asks(self.questions if only is None else only)
        return run(self, lm, only)

    setattr(CandidateScorer, "score", scored)  # noqa: B010 - a method of the product is wrapped
    setattr(Evaluation, "run", asked)  # noqa: B010


def read_log(path: Path) -> list[Asked]:
    """Return what was asked so far; a line that a kill cut off was not asked yet."""
    return list(_blocks(path)) if path.exists() else []


def _blocks(path: Path) -> Iterator[Asked]:
    for line in path.read_text().splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        key = told["part"], told["digest"]
        yield Asked(told["run"], told["pid"], told["number"], key, tuple(told["questions"]))


@dataclass(frozen=True)
class Repeats:
    """Questions that were asked more than once.

    Attributes:
        finished: Of jobs that the store had the answers of: there must be none.
        lost: Of jobs that a kill interrupted.
        same: Asked twice within one process: there must be none.
        jobs: Number of jobs that were interrupted and begun again.
    """

    finished: int = 0
    lost: int = 0
    same: int = 0
    jobs: int = 0


def repeats(blocks: Sequence[Asked], finished: Mapping[int, Collection[Key]]) -> Repeats:
    """Count the questions that were asked again.

    Args:
        blocks: What was asked, in order.
        finished: What the store had when a leading process began, by the process's number.
    """
    asked: Counter[tuple[Key, str]] = Counter()
    within: Counter[tuple[int, Key, str]] = Counter()
    again: set[tuple[int, Key]] = set()
    of_finished = of_lost = same = 0
    for block in blocks:
        for question in block.questions:
            if block.key in finished.get(block.run, ()):
                of_finished += 1
            elif within[block.pid, block.key, question]:
                same += 1
            elif asked[block.key, question]:
                of_lost += 1
                again.add((block.pid, block.key))
            asked[block.key, question] += 1
            within[block.pid, block.key, question] += 1
    return Repeats(of_finished, of_lost, same, len(again))
