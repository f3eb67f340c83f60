"""How far a search is: what every renderer shows, added up from what observers hear."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from search.results.observer import Outlook, TrialRecord

Phase = Literal["baselines", "trials", "finalists", "test"]
PHASES: tuple[Phase, ...] = ("baselines", "trials", "finalists", "test")
"""The phases of a search in their order: each scores on the search, selection or test questions."""
RECENT = 20
"""Trials that are remembered for a table, the last ones."""


@dataclass
class Progress:
    """The state of a search, as far as a person is told of it.

    Attributes:
        clock: Returns seconds since 1970.
        outlook: What was known before the first candidate; None before the search has started.
        scored: Scorings of this study per phase, those of an earlier run included.
        states: Trials by ``complete``, ``stopped`` and ``failed``.
        best: The best trial or baseline that answered every search question.
        baseline: The best baseline on the search questions.
        best_trial: The best trial that answered every search question.
        recent: The last trials, the newest last.
    """

    clock: Callable[[], float] = time.time
    outlook: Outlook | None = None
    scored: dict[Phase, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    states: dict[str, int] = field(default_factory=dict)
    best: TrialRecord | None = None
    baseline: TrialRecord | None = None
    best_trial: TrialRecord | None = None
    recent: deque[TrialRecord] = field(default_factory=lambda: deque(maxlen=RECENT))
    _began: float = 0.0
    _first_trial: float | None = None
    _fresh: int = 0
    _seconds: float = 0.0

    def start(self, outlook: Outlook) -> None:
        """Take up what is known before the first candidate."""
        self.outlook, self._began = outlook, self.clock()

    def add(self, record: TrialRecord) -> None:
        """Take up one scoring."""
        self.scored[phase_of(record)] += 1
        if record.part != "search":
            return
        record = replace(record, results=None, recipe_yaml="")  # answers of many questions are not held here
        if record.kind == "trial":
            self._add_trial(record)
        if record.state == "complete" and "objective" in record.metrics:
            if record.kind == "baseline" and _better(record, self.baseline):
                self.baseline = record
            if record.kind == "trial" and _better(record, self.best_trial):
                self.best_trial = record
            if _better(record, self.best):
                self.best = record

    def _add_trial(self, record: TrialRecord) -> None:
        self.states[record.state] = self.states.get(record.state, 0) + 1
        self.recent.append(record)
        self._seconds += record.ended - record.started
        if self.is_fresh(record):
            self._fresh += 1
            if self._first_trial is None:
                self._first_trial = record.started

    def is_fresh(self, record: TrialRecord) -> bool:
        """Tell whether a scoring was made since this run has started, not by an earlier one."""
        return record.ended >= self._began

    @property
    def trials(self) -> int:
        """Number of trials that are done."""
        return self.scored["trials"]

    @property
    def total(self) -> int:
        """Budget of trials."""
        return 0 if self.outlook is None else self.outlook.trials

    @property
    def phase(self) -> Phase:
        """What is being scored now."""
        if self.scored["test"]:
            return "test"
        if self.scored["finalists"] or (self.total and self.trials >= self.total):
            return "finalists"
        baselines = 0 if self.outlook is None else len(self.outlook.baselines)
        return "trials" if self.trials or self.scored["baselines"] >= baselines else "baselines"

    def seconds_left(self) -> float | None:
        """Return the seconds that the remaining trials will take, going by those so far; None before the first.

        Several workers finish trials side by side, so that the time since the first trial of this run counts, not the
        seconds of each.
        """
        if not self.trials:
            return None
        remaining = max(0, self.total - self.trials)
        if self._fresh and self._first_trial is not None:
            return max(0.0, self.clock() - self._first_trial) / self._fresh * remaining
        return self._seconds / self.trials * remaining

    def elapsed(self) -> float:
        """Return the seconds since this run has started."""
        return self.clock() - self._began

    def summary(self) -> str:
        """Return one line: how many trials were done, how they ended, how long this run took."""
        name = "" if self.outlook is None else self.outlook.study
        words = {"complete": "complete", "stopped": "stopped by the race", "failed": "failed"}
        states = ", ".join(f"{self.states[state]} {text}" for state, text in words.items() if self.states.get(state))
        count = f"{self.trials} of {self.total} trials in {duration(self.elapsed())}"
        return f"study {name}: {count}{f' ({states})' if states else ''}"


def phase_of(record: TrialRecord) -> Phase:
    """Return the phase that a scoring belongs to."""
    if record.part == "search":
        return "trials" if record.kind == "trial" else "baselines"
    return "finalists" if record.part == "selection" else "test"


def _better(record: TrialRecord, other: TrialRecord | None) -> bool:
    return other is None or record.metrics["objective"] > other.metrics["objective"]


def shown_scores(metrics: Mapping[str, float], names: list[str]) -> str:
    """Return scores as ``NAME VALUE`` with four digits, those that are there."""
    return "  ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)


def why(record: TrialRecord) -> str:
    """Return what became of a trial that has no objective: why the race stopped it, or why it failed."""
    reason = record.reason or ""
    return reason.removeprefix("stopped by the race ") if record.state == "stopped" else reason


def duration(seconds: float) -> str:
    """Return a duration for a person: ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
