"""The end of a search: finalists, the winner, and its verdict on questions that nobody searched on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from evals.scores.statistics import Interval
from merge.methods import get_method
from search.objective.constraints import Guard
from search.objective.pareto import front
from search.objective.rung import Agreement
from search.proposals.baselines import Baseline
from search.results.outcome import Comparison, FrontPoint, Masks, Part, Scored, Verdict
from search.results.search_state import Entry, distinct
from search.scoring.resources import Bench
from search.scoring.stored_scores import Outside
from search.study.schema import SearchSection
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
    """

    counts: Mapping[str, int]
    reason: str
    rung: Agreement | None = None


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


@dataclass
class Conclusion:
    """Names the winner on the selection questions and judges it on the test questions.

    Finalists are the best trials and every merge among the baselines: those were not picked by their search score,
    and a search that found nothing better must say so.

    Attributes:
        settings: The study's search section.
        bench: Objective and questions.
        outside: Scores finalists and baselines.
        baselines: The baselines.
        guard: The constraints.
        full: Every baseline, then every trial that answered all search questions.
    """

    settings: SearchSection
    bench: Bench
    outside: Outside
    baselines: Sequence[Baseline]
    guard: Guard
    full: Sequence[Entry]

    def verdict(self, ending: Ending) -> Verdict:
        """Score finalists, name the winner, and compare it with every baseline."""
        finalists = self._finalists()
        winner = self._winner(finalists)
        number = self._number(finalists.index(winner))
        tested = self.outside.score(winner.name, winner.recipe, "test", number, winner.family)
        others = [baseline.name for baseline in self.baselines if baseline.name != winner.name]
        opponents = {name: self._reference(name, "test") for name in others}
        values = {name: scored.value for name, scored in opponents.items()}
        strongest = best_parent(values, [b.name for b in self.baselines if b.kind == "parent"])
        comparisons = self._compared(tested, opponents, strongest)
        directions = {name: score.higher_is_better for name, score in tested.results.scores.items()}
        columns = {winner.name: tested, **opponents}
        scores = {name: self._table_column(scored) for name, scored in columns.items()}
        return Verdict(
            winner=winner.name,
            family=winner.family,
            recipe=winner.recipe.to_mapping(),
            recipe_yaml=winner.recipe.to_yaml(),
            digest=winner.recipe.digest(),
            search_value=winner.value,
            test_value=tested.value,
            models=[b.name for b in self.baselines if b.kind in ("base", "parent")],
            best_parent=strongest,
            comparisons=tuple(sorted(comparisons, key=lambda comparison: comparison.opponent != strongest)),
            scores=scores,
            higher_is_better={"objective": True, **directions},
            counts=ending.counts,
            ended=ending.reason,
            front=self._front(),
            constraints=self.guard.check(tested.metrics(), scores),
            masks=self._masks(winner, number),
            rung=ending.rung,
        )

    def _compared(self, tested: Scored, opponents: Mapping[str, Scored], strongest: str) -> list[Comparison]:
        """Compare the winner with everyone; best parent and merges, which the verdict stands on, also together."""
        objective, seed = self.bench.objective, self.settings.seed
        found = compare(objective, tested, opponents, seed=seed)
        headline = {strongest, *(b.name for b in self.baselines if b.kind in MERGES)}
        alone = {c.opponent: c.objective for c in found if c.opponent in headline}

        def again(name: str, level: float) -> Interval:
            return objective.difference(tested.results, opponents[name].results, level=level, seed=seed)

        holding = shown_together(alone, again)
        return [replace(c, holds=c.opponent in holding) if c.opponent in alone else c for c in found]

    @cached_property
    def _trials(self) -> list[Entry]:
        return distinct(self.full[len(self.baselines) :])

    def _finalists(self) -> list[Entry]:
        """Return the best trials that hold the constraints, then the merges among the baselines."""
        by_name = {entry.name: entry for entry in self._trials}
        holding = {name: entry.value for name, entry in by_name.items() if entry.violation == 0}
        if self.settings.objective == "pareto" and holding:
            names = list(holding)
            best = front([by_name[name].values for name in names])
            holding = {names[place]: holding[names[place]] for place in best}
        values = holding or {name: -entry.violation for name, entry in by_name.items()}
        merges = {b.name for b in self.baselines if b.kind in MERGES}
        ranked = [by_name[name] for name in order_finalists(values, self.settings.finalists)]
        return ranked + [entry for entry in self.full[: len(self.baselines)] if entry.name in merges]

    def _winner(self, finalists: Sequence[Entry]) -> Entry:
        """Return the best finalist on the selection questions among those that hold the constraints there."""
        scored = {
            entry.name: self.outside.score(entry.name, entry.recipe, "selection", self._number(rank), entry.family)
            for rank, entry in enumerate(finalists)
        }
        references: dict[str, Mapping[str, float]] = {}
        if self.guard.bounds:
            references = {b.name: self._reference(b.name, "selection").metrics() for b in self.baselines}
        missed = {name: self.guard.violation(one.metrics(), references) for name, one in scored.items()}
        holding = [name for name in scored if missed[name] == min(missed.values())]
        searched = {entry.name: entry.value for entry in finalists}
        chosen = name_winner({name: scored[name].value for name in holding}, searched)
        return next(entry for entry in finalists if entry.name == chosen)

    def _masks(self, winner: Entry, number: int) -> Masks | None:
        """Score the winner's recipe with other random masks: how much of its score is this one mask's luck."""
        if not get_method(winner.recipe.merge_method).random or not self.settings.mask_seeds:
            return None
        seeds = np.random.SeedSequence((self.settings.seed, 1)).generate_state(self.settings.mask_seeds)
        values = []
        for place, seed in enumerate(map(int, seeds), start=1):
            name = f"{winner.name}, masks {place}"
            place_number = number - 100 * place
            scored = self.outside.score(name, winner.recipe, "test", place_number, winner.family or "masks", seed=seed)
            values.append(scored.value)
        return Masks(tuple(map(int, seeds)), tuple(values))

    def _front(self) -> tuple[FrontPoint, ...]:
        """Return the Pareto front of everything that holds the constraints, baselines included."""
        if self.settings.objective != "pareto":
            return ()
        holding = distinct([entry for entry in self.full if entry.violation == 0])
        terms = self.bench.objective.counted
        return tuple(
            FrontPoint(
                entry.name,
                entry.family,
                entry.recipe.to_yaml(),
                {term.key: term.metric_value(value) for term, value in zip(terms, entry.values, strict=True)},
            )
            for entry in (holding[place] for place in front([entry.values for entry in holding]))
        )

    def _reference(self, name: str, part: Part) -> Scored:
        rank, baseline = next((r, b) for r, b in enumerate(self.baselines, start=1) if b.name == name)
        return self.outside.score(name, baseline.recipe, part, -rank)

    def _number(self, rank: int) -> int:
        """Return the record's number of a finalist: below those of the baselines."""
        return -1 - len(self.baselines) - rank

    def _table_column(self, scored: Scored) -> dict[str, float]:
        """Return scores with the objective first, then its tasks, then what else was measured."""
        metrics = scored.metrics()
        first = ["objective", *(term.key for term in self.bench.objective.terms)]
        return {name: metrics[name] for name in [*first, *(name for name in metrics if name not in first)]}
