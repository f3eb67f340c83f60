"""Test questions that the winner answers better than the best parent, and those that it answers worse, with text."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evals.errors import EvalError
from evals.scores.results import Results
from evals.tasks.sampling import Leaf
from experiments.report.study_facts import StudyFacts
from merge.errors import MergeError
from search.results.verdict import Comparison, TaskComparison
from search.scoring.resources import Resources
from search.storage.store import Store
from search.study.study import LoadedStudy


@dataclass(frozen=True)
class QuestionText:
    """The text of a question.

    Attributes:
        asked: The question.
        choices: The choices, where it has any.
        gold: The right answer.
    """

    asked: str
    choices: tuple[str, ...]
    gold: str

    @property
    def headline(self) -> str:
        """The question in one line, without the prompt's own words; the choices where there is no question."""
        frame = r"^(question|problem|q)\s*:|\b(answer|solution|a)\s*:$"
        line = re.sub(frame, "", " ".join(self.asked.split()), flags=re.IGNORECASE)
        return line.strip() or " / ".join(self.choices)


@dataclass(frozen=True)
class QuestionDifference:
    """One question on which winner and opponent differ.

    Attributes:
        leaf: Its task.
        question: Its id.
        winner: The winner's value.
        opponent: The opponent's value.
        gain: Winner minus opponent, signed so that positive favours the winner.
        text: Its text; None where the data are not available.
    """

    leaf: str
    question: str
    winner: float
    opponent: float
    gain: float
    text: QuestionText | None


@dataclass(frozen=True)
class TaskQuestions:
    """Questions of one task on which winner and opponent differ.

    Attributes:
        score: ``TASK/METRIC``.
        right_or_wrong: Whether answers are right or wrong, rather than graded.
        won: Questions on which the winner is better, clearest first.
        lost: Questions on which it is worse, clearest first.
        level: Number of questions on which both have the same value.
    """

    score: str
    right_or_wrong: bool
    won: tuple[QuestionDifference, ...]
    lost: tuple[QuestionDifference, ...]
    level: int


@dataclass(frozen=True)
class QuestionsWonAndLost:
    """Questions won and lost against one opponent.

    Attributes:
        opponent: Its name.
        tasks: Task by task.
        remark: Why texts are missing; empty where none is.
    """

    opponent: str
    tasks: tuple[TaskQuestions, ...]
    remark: str


def questions_won_and_lost(facts: StudyFacts, data: Path | None = None) -> QuestionsWonAndLost | None:
    """Return the winner's questions against the best parent; None without a verdict or without answers.

    Args:
        facts: The study.
        data: Where the questions are now, laid out as for a search; None for where the study had them.

    Raises:
        evals.errors.EvalError: The questions cannot be read from ``data``; without it, the remark says so.
    """
    verdict = facts.verdict
    if verdict is None or not verdict.comparisons:
        return None
    comparison = verdict.comparisons[0]
    winner = facts.tested(verdict.winner, verdict.recipe_yaml)
    opponent = facts.tested(comparison.opponent)
    if winner is None or opponent is None:
        return None
    texts, remark = _texts(facts, data)
    tasks = tuple(_task(task, winner, opponent, texts) for task in _shown(comparison))
    return QuestionsWonAndLost(comparison.opponent, tasks, remark)


def question_table(found: QuestionsWonAndLost) -> pd.DataFrame:
    """Return one row per question on which winner and opponent differ."""
    rows = [
        (task.score, one.leaf, one.question, one.winner, one.opponent, one.gain, *_cells(one.text))
        for task in found.tasks
        for one in (*task.won, *task.lost)
    ]
    names = ["score", "task", "question", "winner", found.opponent, "gain", "asked", "choices", "gold"]
    return pd.DataFrame(rows, columns=names)


def _cells(text: QuestionText | None) -> tuple[str, str, str]:
    return ("", "", "") if text is None else (text.asked, "\n".join(text.choices), text.gold)


def _shown(comparison: Comparison) -> list[TaskComparison]:
    """Return one score per task: right or wrong where there is one, since that is what people ask about."""
    chosen: dict[str, TaskComparison] = {}
    for task in comparison.tasks:
        label = task.task.split("/", 1)[0]
        if label not in chosen or (task.test == "mcnemar" and chosen[label].test != "mcnemar"):
            chosen[label] = task
    return list(chosen.values())


def _task(
    task: TaskComparison, winner: Results, opponent: Results, texts: Mapping[tuple[str, str], QuestionText]
) -> TaskQuestions:
    label, metric = task.task.split("/", 1)
    values = {"one": _values(winner, label, metric), "other": _values(opponent, label, metric)}
    both = pd.DataFrame(values).dropna()
    sign = 1.0 if task.higher_is_better else -1.0
    judged = [
        QuestionDifference(
            str(leaf), str(question), float(a), float(b), sign * float(a - b), texts.get((str(leaf), str(question)))
        )
        for (leaf, question), a, b in zip(both.index, both["one"], both["other"], strict=True)
    ]
    won = sorted((one for one in judged if one.gain > 0), key=lambda one: -one.gain)
    lost = sorted((one for one in judged if one.gain < 0), key=lambda one: one.gain)
    return TaskQuestions(task.task, task.test == "mcnemar", tuple(won), tuple(lost), len(judged) - len(won) - len(lost))


def _values(results: Results, label: str, metric: str) -> "pd.Series[float]":
    answers = results.answers
    rows = answers[(answers["task"] == label) & (answers["metric"] == metric)]
    return rows.set_index(["leaf", "question"])["value"]


def _texts(facts: StudyFacts, data: Path | None) -> tuple[dict[tuple[str, str], QuestionText], str]:
    """Return the texts of the test questions, or why there are none; reads the data, opens no model."""
    store = Store(facts.folder.store_url(facts.study), facts.study)
    bench = Resources(facts.study if data is None else _asked_from(data, facts.study), (), "cpu", facts.folder.root)
    bench.use(store)
    try:
        texts = dict(_found_texts(bench))
    except (EvalError, MergeError, OSError, LookupError) as error:
        if data is not None and isinstance(error, EvalError):
            raise
        lines = str(error).splitlines()
        why = lines[0] if lines else type(error).__name__
        return {}, f"the questions' texts are missing: {why}; 'mergesearch report STUDY --data DIR' says where"
    missing = len(bench.questions("test")) - len(texts)
    return texts, f"{missing} of the test questions are not in the data" if missing else ""


def _found_texts(bench: Resources) -> Iterator[tuple[tuple[str, str], QuestionText]]:
    """Go through the test questions that the data hold, wherever in their split they stand."""
    leaves = {task.name: task for task in bench.tasks}
    for question in bench.questions("test"):
        leaf = leaves[question.task]
        split = Leaf.of(leaf).split(question.split)
        if question.id in split.ids:
            yield (question.task, question.id), _text(leaf.task, split.docs[split.ids.index(question.id)])


def _asked_from(data: Path, study: LoadedStudy) -> LoadedStudy:
    document = study.file.model_dump(mode="json", exclude_unset=True)
    document["evaluate"]["data"] = str(data.resolve())
    return LoadedStudy(document, place=study.place)


def _text(task: Any, doc: Any) -> QuestionText:
    asked, gold = task.doc_to_text(doc), task.doc_to_target(doc)
    choices = list(map(str, task.doc_to_choice(doc))) if task.get_config("doc_to_choice") is not None else []
    if isinstance(gold, int) and 0 <= gold < len(choices):
        gold = choices[gold]
    if isinstance(asked, int):  # lm-eval's winogrande: the choices are beginnings, the target is what follows them
        return QuestionText(
            f"… {str(gold).strip()}", tuple(choices), choices[asked] if 0 <= asked < len(choices) else ""
        )
    return QuestionText(str(asked).strip(), tuple(choices), _gold(gold))


def _gold(gold: object) -> str:
    return "; ".join(map(str, gold)) if isinstance(gold, Sequence) and not isinstance(gold, str) else str(gold)
