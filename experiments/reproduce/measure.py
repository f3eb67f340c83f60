"""Measures the published scores of a card, task by task, each with an interval and a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from evals.cache.disk_cache import DiskCache
from evals.engines.registry import make_engine
from evals.errors import DataError, EvalError, TaskError
from evals.evaluation import Evaluation
from evals.scores.results import Results
from evals.suites import load_suite
from evals.tasks.cached import remembered_questions, remembered_tasks
from evals.tasks.loading import LoadedTask, TaskSpec
from evals.tasks.metrics import canonical_metric
from experiments.reproduce.card.benchmarks import TaskRequest
from experiments.reproduce.card.claimed_scores import PublishedScore

Z = 1.959964
"""Quantile of the standard normal distribution for 95 % intervals."""

SAME_TASK = {"leaderboard_ifeval": "ifeval"}
"""Tasks of a leaderboard that lm-eval has a second time, with the same rows and prompts."""

Outcome = Literal["reproduced", "lower", "higher", "not measured"]


@dataclass(frozen=True)
class Settings:
    """How tasks are asked; the names are those of lm-eval's command line.

    Attributes:
        data: Folder with rows; None for the hub.
        limit: First so many questions of each task.
        num_fewshot: Shots for every task, instead of the card's.
        include_path: Folder with more task files.
        apply_chat_template: Wrap prompts in the model's template.
        engine: ``live`` or ``hf``.
    """

    data: Path | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    include_path: Path | None = None
    apply_chat_template: bool = False
    engine: str = "live"


@dataclass(frozen=True)
class MeasuredScore:
    """A published score and what was measured.

    Attributes:
        published: The score on the card.
        value: The measured score; None where it was not measured.
        low: Lower end of the 95 % interval.
        high: Upper end.
        questions: Questions that were asked.
        available: Questions that the task has.
        outcome: The verdict.
        reason: Why it was not measured.
    """

    published: PublishedScore
    value: float | None = None
    low: float = math.nan
    high: float = math.nan
    questions: int = 0
    available: int = 0
    outcome: Outcome = "not measured"
    reason: str = ""


@dataclass(frozen=True)
class ClaimedTask:
    """One task of a card, loaded, with the scores that are claimed for it.

    Attributes:
        asked: What is asked for; its metric is that of the first claim.
        claims: The published scores.
        metrics: The metric of each claim, by lm-eval's name; several where their mean is the score.
        loaded: lm-eval's tasks.
    """

    asked: TaskRequest
    claims: tuple[PublishedScore, ...]
    metrics: tuple[tuple[str, ...], ...]
    loaded: tuple[LoadedTask, ...]

    @property
    def label(self) -> str:
        """The name under which its scores stand."""
        return self.loaded[0].label


def load_claimed(
    claims: Sequence[PublishedScore], settings: Settings, kept: DiskCache
) -> tuple[list[ClaimedTask], list[MeasuredScore]]:
    """Load the tasks behind published scores; `kept` saves what a later start can reuse.

    Returns:
        The tasks, and the claims that cannot be measured here, each with its reason.
    """
    groups: dict[tuple[str, int | None], list[PublishedScore]] = {}
    left: list[MeasuredScore] = []
    for claim in claims:
        if claim.asked is None:
            left.append(MeasuredScore(claim, reason="no task is known by this name"))
        else:
            wanted = claim.asked
            if settings.num_fewshot is not None and wanted.shots is not None:
                wanted = replace(wanted, shots=settings.num_fewshot)
            groups.setdefault((wanted.task, wanted.shots), []).append(replace(claim, asked=wanted))
    tasks: list[ClaimedTask] = []
    for listed in groups.values():
        asked = listed[0].asked
        assert asked is not None
        try:
            loaded = _load(asked, settings, kept)
        except EvalError as error:
            said = str(error).splitlines()[0]
            left += [MeasuredScore(claim, reason=_reason(error, said)) for claim in listed]
            continue
        known, metrics = _known_metrics(listed, loaded, left)
        if known:
            tasks.append(ClaimedTask(asked, known, metrics, loaded))
    return tasks, left


def _load(asked: TaskRequest, settings: Settings, kept: DiskCache) -> tuple[LoadedTask, ...]:
    """Load a task; where its rows are not among the local ones, the same task under its other name."""
    try:
        return _load_named(asked.task, asked, settings, kept)
    except DataError:
        if asked.task not in SAME_TASK:
            raise
        return _load_named(SAME_TASK[asked.task], asked, settings, kept)


def _load_named(name: str, asked: TaskRequest, settings: Settings, kept: DiskCache) -> tuple[LoadedTask, ...]:
    spec = TaskSpec(task=name, metric=_metrics(asked)[0] or None, num_fewshot=asked.shots)
    return remembered_tasks((spec,), kept, data=settings.data, include_path=settings.include_path, place="card")


def _reason(error: EvalError, said: str) -> str:
    return said.rsplit("card[0].task ", 1)[-1] if isinstance(error, DataError | TaskError) else said


def _metrics(asked: TaskRequest) -> tuple[str, ...]:
    """Return the metrics whose mean a claim is."""
    if not asked.suite:
        return (asked.metric,)
    suite = load_suite(asked.suite)
    own = next(str(spec.metric) for spec in suite.tasks if spec.task == asked.task)
    return suite.metrics.get(asked.task, (own,))


def _known_metrics(
    claims: Sequence[PublishedScore], loaded: Sequence[LoadedTask], left: list[MeasuredScore]
) -> tuple[tuple[PublishedScore, ...], tuple[tuple[str, ...], ...]]:
    kept, metrics = [], []
    for claim in claims:
        assert claim.asked is not None
        try:
            names = [name or loaded[0].default_metric for name in _metrics(claim.asked)]
            metrics.append(tuple(canonical_metric(name, loaded[0].metrics, "card: metric") for name in names))
            kept.append(claim)
        except TaskError as error:
            left.append(MeasuredScore(claim, reason=str(error).splitlines()[0]))
    return tuple(kept), tuple(metrics)


def score_task(
    task: ClaimedTask, model: Any, tokenizer: Any, settings: Settings, kept: DiskCache
) -> tuple[Results, int]:
    """Ask one task of a model; return its answers and how many questions there are without a limit.

    Prompts and tokens that an earlier start kept are taken from `kept`, others go there.
    """
    every = remembered_questions(task.loaded, kept, None)
    parts = [[question for question in every if question.task == loaded.name] for loaded in task.loaded]
    questions = [question for part in parts for question in part[: settings.limit]]
    evaluation = Evaluation.build(
        task.loaded,
        questions,
        tokenizer=tokenizer,
        metrics="all" if len({name.startswith("gold_") for names in task.metrics for name in names}) > 1 else "asked",
        apply_chat_template=settings.apply_chat_template,
        kept=kept,
    )
    return evaluation.run(make_engine(settings.engine, model, tokenizer)), len(every)


def judge(task: ClaimedTask, results: Results, available: int) -> list[MeasuredScore]:
    """Compare what is claimed for a task with its answers."""
    found = []
    for claim, metrics in zip(task.claims, task.metrics, strict=True):
        value, low, high, count = interval(results, task, metrics)
        shown = round(claim.value, 4)
        outcome: Outcome = "lower" if high < shown - 5e-5 else "higher" if low > shown + 5e-5 else "reproduced"
        found.append(MeasuredScore(claim, value, low, high, count, available, outcome))
    return found


def interval(results: Results, task: ClaimedTask, metrics: Sequence[str]) -> tuple[float, float, float, int]:
    """Return a score with the ends of its 95 % interval over questions, and their number.

    Right or wrong answers get Wilson's interval, others the normal one. A suite's normalisation is applied to all
    three; a mean over subtasks is treated as one pool, which is a little too wide.
    Source: E. B. Wilson, JASA 22 (1927).
    """
    raw = sum(results.scores[f"{task.label}/{metric}"].value for metric in metrics) / len(metrics)
    answers = results.answers[results.answers["metric"].isin(metrics)]
    values = np.asarray(answers.groupby(["leaf", "question"])["value"].mean(), dtype=np.float64)
    n = len(values)
    if np.isin(answers["value"], (0.0, 1.0)).all() and 0 <= raw <= 1:
        middle = (raw + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * math.sqrt(raw * (1 - raw) / n + Z * Z / (4 * n * n))
        below, above = raw - (middle - half), middle + half - raw
    else:
        spread = float(np.std(values, ddof=1)) if n > 1 else math.inf
        below = above = Z * spread / math.sqrt(n)
        if ((values >= 0) & (values <= 1)).all():
            below, above = min(below, raw), min(above, 1 - raw)
    value, scale = _shown(task, results, answers, raw)
    return value, value - below * scale, value + above * scale, n


def _shown(task: ClaimedTask, results: Results, answers: pd.DataFrame, raw: float) -> tuple[float, float]:
    """Return a score as its suite shows it, and by how much that stretches differences."""
    if not task.asked.suite or task.label != task.asked.task:
        return raw, 1.0
    suite = load_suite(task.asked.suite)
    chances = [suite.choices.get(str(leaf), suite.choices.get(task.label)) for leaf in answers["leaf"].unique()]
    scales = [1.0 if k is None else 1 / (1 - 1 / k) for k in chances]
    return suite.shown(results)[task.label], sum(scales) / len(scales)
