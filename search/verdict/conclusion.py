"""The end of a search: finalists, the winner, and its verdict on questions that nobody searched on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from evals.scores.statistics import Interval
from merge.methods import get_method
from merge.recipe.schema import Recipe
from search.objective.pareto import front
from search.objective.rung import Agreement
from search.proposals.baselines import Baseline
from search.results.job import Job
from search.results.outcome import Part, Scored
from search.results.search_state import Entry, OutsideScores, SearchState, distinct
from search.results.verdict import Comparison, FrontPoint, Masks, Verdict
from search.verdict.finalists import best_parent, compare, name_winner, order_finalists

MERGES = ("merge", "known")
"""Kinds of baselines that are finalists by right."""


@dataclass(frozen=True)
class Ending:
    """What the verdict says about the search itself.

    Attributes:
        counts: Number of questions per part.
        reason: Why no more candidates were asked for.
        rung: How well the first rung ranks candidates; None for a study without one.
        earlier_looks: How many earlier verdicts looked at the same test questions.
    """

    counts: Mapping[str, int]
    reason: str
    rung: Agreement | None = None
    earlier_looks: int = 0


def shown_together(alone: Mapping[str, Interval], again: Callable[[str, float], Interval]) -> set[str]:
    """Return the opponents whose difference is still shown when all are compared at one level together.

    Holm's step-down correction in terms of intervals: with m opponents left, those are shown whose interval at
    level 1 - (1 - level) / m leaves zero out; then the others are tried with what is left of them.
    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979).

    Args:
        alone: Interval of each opponent, all at one level.
        again: Returns an opponent's interval at another level.
    """
    shown: set[str] = set()
    left = set(alone)
    while left:
        found = {name for name in left if excludes_zero(alone[name])}
        if len(left) > 1:
            found = {name for name in found if excludes_zero(again(name, 1 - (1 - alone[name].level) / len(left)))}
        if not found:
            break
        shown, left = shown | found, left - found
    return shown


def excludes_zero(interval: Interval) -> bool:
    """Tell whether a difference is shown."""
    return interval.low > 0 or interval.high < 0


class Conclusion:
    """Names the winner on the selection questions and judges it on the test questions.

    Finalists are the best trials and every merge among the baselines: those were not picked by their search score,
    and a search that found nothing better must say so.

    Args:
        state: What was scored in the search.
        baselines: The baselines.
        counts: Number of questions per part.
    """

    def __init__(self, state: SearchState, baselines: Sequence[Baseline], counts: Mapping[str, int]) -> None:
        self._rules, self._settings = state.rules, state.rules.settings
        self._baselines = baselines
        self._counts = counts
        entries = state.entries[len(baselines) :]
        self._all = [*state.entries[: len(baselines)], *sorted(entries, key=lambda entry: entry.number)]

    def selection_jobs(self) -> list[Job]:
        """Return what is scored on the selection questions: finalists, and baselines that constraints refer to."""
        jobs = [
            Job(one.name, self._number(rank), one.recipe, "selection", self._counts["selection"], one.family)
            for rank, one in enumerate(self._finalists)
        ]
        return jobs + ([self._reference(b, "selection") for b in self._baselines] if self._rules.guard.bounds else [])

    def test_jobs(self, winner: Entry) -> list[Job]:
        """Return what is scored on the test questions: the winner, the baselines, the winner with other masks."""
        number = self._number(self._finalists.index(winner))
        first = Job(winner.name, number, winner.recipe, "test", self._counts["test"], winner.family)
        others = [self._reference(baseline, "test") for baseline in self._baselines if baseline.name != winner.name]
        return [first, *others, *self._mask_jobs(first)]

    def winner(self, scored: OutsideScores) -> Entry:
        """Return the best finalist on the selection questions among those that hold the constraints there."""
        finalists = {one.name: self._of("selection", one.recipe, scored) for one in self._finalists}
        references: dict[str, Mapping[str, float]] = {}
        guard = self._rules.guard
        if guard.bounds:
            references = {b.name: self._of("selection", b.recipe, scored).metrics() for b in self._baselines}
        missed = {name: guard.violation(one.metrics(), references) for name, one in finalists.items()}
        holding = [name for name in finalists if missed[name] == min(missed.values())]
        searched = {entry.name: entry.value for entry in self._finalists}
        chosen = name_winner({name: finalists[name].value for name in holding}, searched)
        return next(entry for entry in self._finalists if entry.name == chosen)

    def verdict(self, winner: Entry, scored: OutsideScores, ending: Ending) -> Verdict:
        """Compare the winner with every baseline on the test questions."""
        tested = self._of("test", winner.recipe, scored)
        others = [baseline for baseline in self._baselines if baseline.name != winner.name]
        opponents = {baseline.name: self._of("test", baseline.recipe, scored) for baseline in others}
        values = {name: one.value for name, one in opponents.items()}
        strongest = best_parent(values, [b.name for b in self._baselines if b.kind == "parent"])
        comparisons = self._compared(tested, opponents, strongest)
        directions = {name: score.higher_is_better for name, score in tested.results.scores.items()}
        columns = {winner.name: tested, **opponents}
        scores = {name: self._table_column(one) for name, one in columns.items()}
        return Verdict(
            winner=winner.name,
            family=winner.family,
            recipe=winner.recipe.to_mapping(),
            recipe_yaml=winner.recipe.to_yaml(),
            digest=winner.recipe.digest(),
            search_value=winner.value,
            test_value=tested.value,
            models=[b.name for b in self._baselines if b.kind in ("base", "parent")],
            best_parent=strongest,
            comparisons=tuple(sorted(comparisons, key=lambda comparison: comparison.opponent != strongest)),
            scores=scores,
            higher_is_better={"objective": True, **directions},
            counts=ending.counts,
            ended=ending.reason,
            front=self._front(),
            constraints=self._rules.guard.check(tested.metrics(), scores),
            masks=self._masks(winner, scored),
            rung=ending.rung,
            earlier_looks=ending.earlier_looks,
        )

    @staticmethod
    def _of(part: Part, recipe: Recipe, scored: OutsideScores) -> Scored:
        return scored[part, recipe.digest()]

    def _compared(self, tested: Scored, opponents: Mapping[str, Scored], strongest: str) -> list[Comparison]:
        """Compare the winner with everyone; best parent and merges, which the verdict stands on, also together."""
        objective, seed = self._rules.objective, self._settings.seed
        found = compare(objective, tested, opponents, seed=seed)
        headline = {strongest, *(b.name for b in self._baselines if b.kind in MERGES)}
        alone = {c.opponent: c.objective for c in found if c.opponent in headline}

        def again(name: str, level: float) -> Interval:
            return objective.difference(tested.results, opponents[name].results, level=level, seed=seed)

        holding = shown_together(alone, again)
        return [replace(c, holds=c.opponent in holding) if c.opponent in alone else c for c in found]

    @cached_property
    def _trials(self) -> list[Entry]:
        return distinct(self._all[len(self._baselines) :])

    @cached_property
    def _finalists(self) -> list[Entry]:
        """Return the best trials that hold the constraints, then the merges among the baselines."""
        by_name = {entry.name: entry for entry in self._trials}
        holding = {name: entry.value for name, entry in by_name.items() if entry.violation == 0}
        if self._settings.objective == "pareto" and holding:
            names = list(holding)
            best = front([by_name[name].values for name in names])
            holding = {names[place]: holding[names[place]] for place in best}
        values = holding or {name: -entry.violation for name, entry in by_name.items()}
        merges = {b.name for b in self._baselines if b.kind in MERGES}
        ranked = [by_name[name] for name in order_finalists(values, self._settings.finalists)]
        return ranked + [entry for entry in self._all[: len(self._baselines)] if entry.name in merges]

    def _mask_jobs(self, first: Job) -> list[Job]:
        """Return the winner's job with other random masks: how much of its score is this one mask's luck."""
        return [
            replace(
                first,
                name=f"{first.name}, masks {place}",
                number=first.number - 100 * place,
                family=first.family or "masks",
                seed=seed,
            )
            for place, seed in enumerate(self._mask_seeds(first.plain()), start=1)
        ]

    def _mask_seeds(self, recipe: Recipe) -> list[int]:
        if not get_method(recipe.merge_method).random or not self._settings.mask_seeds:
            return []
        sequence = np.random.SeedSequence((self._settings.seed, 1))
        return [int(seed) for seed in sequence.generate_state(self._settings.mask_seeds)]

    def _masks(self, winner: Entry, scored: OutsideScores) -> Masks | None:
        seeds = self._mask_seeds(winner.recipe)
        values = [scored["test", f"{winner.recipe.digest()}@{seed}"].value for seed in seeds]
        return Masks(tuple(seeds), tuple(values)) if seeds else None

    def _front(self) -> tuple[FrontPoint, ...]:
        """Return the Pareto front of everything that holds the constraints, baselines included."""
        if self._settings.objective != "pareto":
            return ()
        holding = distinct([entry for entry in self._all if entry.violation == 0])
        terms = self._rules.objective.counted
        return tuple(
            FrontPoint(
                entry.name,
                entry.family,
                entry.recipe.to_yaml(),
                {term.key: term.metric_value(value) for term, value in zip(terms, entry.values, strict=True)},
            )
            for entry in (holding[place] for place in front([entry.values for entry in holding]))
        )

    def _reference(self, baseline: Baseline, part: Part) -> Job:
        rank = [one.name for one in self._baselines].index(baseline.name) + 1
        return Job(baseline.name, -rank, baseline.recipe, part, self._counts[part])

    def _number(self, rank: int) -> int:
        """Return the record's number of a finalist: below those of the baselines."""
        return -1 - len(self._baselines) - rank

    def _table_column(self, scored: Scored) -> dict[str, float]:
        """Return scores with the objective first, then its tasks, then what else was measured."""
        metrics = scored.metrics()
        first = ["objective", *(term.key for term in self._rules.objective.terms)]
        return {name: metrics[name] for name in [*first, *(name for name in metrics if name not in first)]}
