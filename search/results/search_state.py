"""The state of a search: what everyone has scored so far, who is best, what failed last. A value, not an object.

``with_outcome`` gives the next state. Going through the stored outcomes of an earlier run in the same way gives the
state in which that run ended.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evals.scores.results import Results
from merge.recipe.schema import Recipe
from search.objective.constraints import Guard
from search.objective.objective import Objective
from search.objective.pareto import front
from search.objective.racing import Race, worth_of_questions
from search.objective.rung import Agreement, ranks
from search.results.job import Job, Rivals
from search.results.outcome import Failed, Part, Scored
from search.space.search_space import RecipeText
from search.study.schema import SearchSection

MAX_ALIKE_FAILURES = 3
"""So many failures of one kind in a row stop the search: the next would fail too."""
MAX_RECIPE_FAILURES = 25
"""The same for values that do not go together, such as an empty layer range: the space has others."""
OutsideScores = Mapping[tuple[Part, str], Scored]
"""What was scored on selection and test questions, by part and digest."""


@dataclass(frozen=True)
class Rules:
    """What decides in a study; the same from its first trial to its last.

    Attributes:
        settings: Its search section.
        objective: What the tasks are worth together.
        guard: Its constraints.
        baselines: Names of the baselines, in their order.
        rung: What its first rung is worth; None for a study without one.
    """

    settings: SearchSection
    objective: Objective
    guard: Guard
    baselines: tuple[str, ...]
    rung: Objective | None = None

    def compared(self, results: Results) -> tuple[float, ...]:
        """Return the utility of every task that counts, for a Pareto front; nothing where the mean decides."""
        return self.objective.values(results) if self.settings.objective == "pareto" else ()


@dataclass(frozen=True)
class Entry:
    """A recipe that answered every search question.

    Attributes:
        name: What tables call it.
        family: Its family, empty for a baseline.
        filled: The recipe, or its text.
        value: Its objective on the search questions.
        values: What is compared: the objective alone, or every task's utility for a Pareto front.
        violation: By how much it misses the constraints; 0 when it holds them.
        number: Number of its record: of a trial, or below zero.
    """

    name: str
    family: str
    filled: Recipe | RecipeText
    value: float
    values: tuple[float, ...] = ()
    violation: float = 0.0
    number: int = 0

    @property
    def recipe(self) -> Recipe:
        """Return the recipe."""
        return self.filled if isinstance(self.filled, Recipe) else self.filled.recipe()

    @property
    def compared(self) -> tuple[float, ...]:
        """Return the values by which it is compared with others."""
        return self.values or (self.value,)


@dataclass(frozen=True)
class SearchState:
    """What a search has scored so far.

    Only the answers of the best and of the baselines are kept; the others' are in the store.

    Attributes:
        rules: What decides.
        baselines: What the baselines scored on the search questions, by name.
        entries: Everyone who answered every search question: the baselines once all are scored, then trials in the
            order in which they finished.
        best: The best so far with its results; all of the front where several values are compared.
        failures: The failures since the last success.
        trials: Number of finished trials.
        idle: Trials since the best changed.
        worth: How much the baselines disagree on each search question, where the race asks the most telling ones first.
        rung_values: Objective on the first rung and objective, of everyone who answered every question.
        outside: What finalists and baselines scored on selection and test questions.
    """

    rules: Rules
    baselines: Mapping[str, Scored] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    best: tuple[tuple[Entry, Results], ...] = ()
    failures: tuple[Failed, ...] = ()
    trials: int = 0
    idle: int = 0
    worth: Mapping[tuple[str, str], float] = field(default_factory=dict)
    rung_values: tuple[tuple[float, float], ...] = ()
    outside: OutsideScores = field(default_factory=dict)

    def with_outcome(self, job: Job, outcome: Scored | Failed, *, from_earlier_run: bool = False) -> "SearchState":
        """Return the state after a job is finished.

        Args:
            job: A baseline, a trial, or something that was scored on selection or test questions.
            outcome: What became of it.
            from_earlier_run: Its failure stops nothing: the cause may be mended.
        """
        if job.number >= 0:
            return self._with_trial(job, outcome, from_earlier_run=from_earlier_run)
        assert isinstance(outcome, Scored)
        if job.part == "search":
            return self._with_baseline(job, outcome)
        return replace(self, outside={**self.outside, (job.part, job.digest()): outcome})

    def _with_baseline(self, job: Job, scored: Scored) -> "SearchState":
        """Keep a baseline; enter all of them, in their order, once the last one is scored."""
        state = replace(self, baselines={**self.baselines, job.name: scored}, entries=(*self.entries, _entry(job)))
        rules = self.rules
        if len(state.baselines) < len(rules.baselines):
            return state
        made = {entry.name: entry for entry in state.entries}
        state = replace(state, entries=())
        for name in rules.baselines:
            state = state.entered(made[name], state.baselines[name])
        in_order = [state.baselines[name].results.answers for name in rules.baselines]
        learned = rules.settings.race_order == "learned"
        return replace(state, idle=0, worth=worth_of_questions(rules.objective, in_order) if learned else {})

    def _with_trial(self, job: Job, outcome: Scored | Failed, *, from_earlier_run: bool) -> "SearchState":
        state = replace(self, trials=self.trials + 1, idle=self.idle + 1)
        if isinstance(outcome, Failed):
            state = replace(state, failures=(*self.failures, outcome))
            return replace(state, failures=()) if from_earlier_run and state.alike_failure() else state
        state = replace(state, failures=())
        return state if outcome.stopped_after is not None else state.entered(_entry(job), outcome)

    def entered(self, entry: Entry, scored: Scored) -> "SearchState":
        """Return the state with someone who answered every question; the first of two equals is the best."""
        rules, results = self.rules, scored.results
        values = rules.compared(results)
        entry = replace(entry, value=scored.value, values=values, violation=self.violation(scored))
        rung = rules.rung
        pair = () if rung is None else ((rung.value(results), scored.value),)
        state = replace(self, entries=(*self.entries, entry), rung_values=(*self.rung_values, *pair))
        raced_against = bool(entry.family) or rules.settings.race_against == "everyone"
        if entry.violation > 0 or not raced_against:
            return state
        contenders = (*self.best, (entry, results))
        leading = front([one.compared for one, _ in contenders])
        changed = leading[-1] == len(self.best)
        return replace(state, best=tuple(contenders[i] for i in leading), idle=0 if changed else state.idle)

    def alike_failure(self) -> Failed | None:
        """Return the last of several failures of one kind in a row; None as long as they are too few."""
        if not self.failures:
            return None
        last = self.failures[-1]
        most = MAX_RECIPE_FAILURES if last.kind == "RecipeError" else MAX_ALIKE_FAILURES
        alike = self.failures[-most:]
        return last if len(alike) == most and len({one.kind for one in alike}) == 1 else None

    def violation(self, scored: Scored) -> float:
        """Return by how much a candidate misses the constraints."""
        guard = self.rules.guard
        return guard.violation(scored.metrics(), self.references()) if guard.bounds else 0.0

    def references(self) -> dict[str, Mapping[str, float]]:
        """Return what the baselines scored, which constraints refer to."""
        return {name: scored.metrics() for name, scored in self.baselines.items()}

    def rivals(self) -> Rivals | None:
        """Return whom a candidate that is sent now races against; None where it does not race."""
        settings = self.rules.settings
        if not settings.race or not self.best:
            return None
        everywhere = settings.objective == "pareto"
        race = Race(self.rules.objective, settings.race_level, worth=self.worth, everywhere=everywhere)
        answers, numbers = [results.answers for _, results in self.best], tuple(one.number for one, _ in self.best)
        return Rivals(race, answers, self.agreement().trusted, numbers)

    def agreement(self) -> Agreement:
        """Return how well the first rung ranks what was scored so far."""
        return ranks([low for low, _ in self.rung_values], [high for _, high in self.rung_values])

    def sampler_values(self, outcome: Scored | Failed) -> tuple[float, ...]:
        """Return what the sampler learns of a trial; nothing of one that failed."""
        if isinstance(outcome, Failed):
            return ()
        values = (outcome.value,) if self.rules.settings.objective == "mean" else outcome.values
        stopped = outcome.stopped_after is not None
        return self.penalised(values, stopped=stopped, violation=0.0 if stopped else self.violation(outcome))

    def penalised(self, values: Sequence[float], *, stopped: bool, violation: float = 0.0) -> tuple[float, ...]:
        """Return the values of a candidate, lowered where it was stopped or misses a constraint.

        Such a candidate gets less than the worst that was scored in full and holds the constraints, the more it misses
        the less (Deb, 2000: no penalty has to be tuned).
        """
        if not stopped and violation == 0:
            return tuple(values)
        holding = [entry.compared for entry in self.entries if entry.violation == 0]
        worst = [min(column) for column in zip(*holding, strict=True)] if holding else list(values)
        below = [float(np.nextafter(limit, -math.inf)) for limit in worst]
        return tuple(min(value, limit) - violation for value, limit in zip(values, below, strict=True))


def _entry(job: Job) -> Entry:
    return Entry(job.name, job.family, job.recipe, 0.0, number=job.number)


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Return the first entry of each recipe: a sampler may propose the same one twice."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.recipe.digest(), entry)
    return list(first.values())
