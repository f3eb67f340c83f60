"""CMA-ES for numbers (Hansen & Ostermeier, 2001), with margin for grids and choices (CatCMAwM, Hamano et al., 2025).

Spaces of more than 20 continuous dimensions use the separable form (Ros & Hansen, 2008). Choices, several families
and holes that only some merge methods use make one flat space, in which what a candidate does not use is left to
drift. The state is replayed from the finished trials of the study, so that a resumed study goes on as if nothing had
happened; generations are filled in any order, so that several workers may share them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from cmaes import CatCMAwM, SepCMA, get_warm_start_mgd
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search.errors import StudyError
from search.samplers import Known, SamplerContext
from search.space.transform import Array, Box, Point

SOLUTION = "cmaes"
LARGE = 20
LEAST_SOURCES = 5


def make(context: SamplerContext, *, popsize: int | None = None, sigma0: float = 0.2) -> BaseSampler:
    """Return the sampler.

    Args:
        context: Space, seed and budget.
        popsize: Candidates of a generation; unset: 8, 12 above 20 dimensions.
        sigma0: First standard deviation, as a part of each range.

    Raises:
        StudyError: For a Pareto front, or a space of choices alone.
    """
    if context.objectives > 1:
        raise StudyError("search.sampler: cmaes has one objective, got objective: pareto; use nsga2, nsga3 or tpe")
    if popsize is not None and popsize < 4:
        raise ValueError(f"popsize must be at least 4, got {popsize}")
    if not 0 < sigma0 <= 1:
        raise ValueError(f"sigma0 must be in (0, 1], got {sigma0}")
    box = Box(context.space.dimensions())
    if not box.numbers:
        raise StudyError("search.sampler: cmaes needs a hole that is a number, got choices alone; use tpe")
    size = popsize or (12 if context.space.size() > LARGE else 8)
    return CovarianceSampler(box, context, size, sigma0)


def has_full_covariance(box: Box) -> bool:
    """Tell whether a space gets a full covariance: a small one, or one with grids or choices."""
    return bool(box.grids or box.choices) or len(box.numbers) <= LARGE


class _Strategy(Protocol):
    def ask(self, seed: int) -> dict[str, list[float]]: ...

    def tell(self, told: Sequence[tuple[Mapping[str, Sequence[float]], float]]) -> None: ...


@dataclass
class _Replayed:
    """A strategy and the trials that it has learned from."""

    strategy: _Strategy
    start: list[float]
    generation: int = 0
    told: list[int] = field(default_factory=list)


class CovarianceSampler(BaseSampler):
    """An evolution strategy as an Optuna sampler.

    Args:
        box: The flat space.
        context: Seed, earlier results, and the memo that keeps the replayed state between proposals.
        popsize: Candidates of a generation.
        sigma: First standard deviation in the box.
    """

    def __init__(self, box: Box, context: SamplerContext, popsize: int, sigma: float) -> None:
        self._box = box
        self._context = context
        self._popsize = popsize
        self._sigma = sigma
        self._independent = RandomSampler(seed=context.seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole flat space."""
        del study, trial
        return dict(self._box.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values of one solution, and keep the solution with the trial."""
        del search_space
        if "fixed_params" in trial.system_attrs:
            return {}
        kept = trial.system_attrs.get(SOLUTION)
        if kept is None:
            state = self._replay(study)
            solution = state.strategy.ask(self._context.seed)
            kept = {"generation": state.generation, "start": state.start, **solution}
            study._storage.set_trial_system_attr(trial._trial_id, SOLUTION, json.loads(json.dumps(kept)))
        chosen = tuple(int(index) for index in kept["choices"])
        return dict(self._box.decode(Point(np.array(kept["numbers"]), chosen)))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value: only dimensions of a single value come here."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _replay(self, study: Study) -> _Replayed:
        """Return the strategy after every full generation."""
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        mine = [trial for trial in done if SOLUTION in trial.system_attrs]
        state = self._context.memo.get(SOLUTION)
        if state is None:
            state = self._begin(study, done)
            self._context.memo[SOLUTION] = state
        by_generation: dict[int, list[FrozenTrial]] = {}
        for trial in mine:
            by_generation.setdefault(trial.system_attrs[SOLUTION]["generation"], []).append(trial)
        while len(by_generation.get(state.generation, ())) >= self._popsize:
            first = by_generation[state.generation][: self._popsize]
            state.strategy.tell([(trial.system_attrs[SOLUTION], -float(trial.value or 0.0)) for trial in first])
            state.generation += 1
        return state

    def _begin(self, study: Study, done: Sequence[FrozenTrial]) -> _Replayed:
        """Return the strategy before its first generation: around the best that is known, else in the middle."""
        asked = next((t for t in study.get_trials(deepcopy=False) if SOLUTION in t.system_attrs), None)
        if asked is not None:
            start = list(asked.system_attrs[SOLUTION]["start"])
        else:
            known = max(done, key=lambda trial: float(trial.value or 0.0), default=None)
            best = self._box.encode({} if known is None else known.params)
            start = [float(number) for number in best.numbers]
        sources = _sources(self._box, self._context.sources)
        if has_full_covariance(self._box):
            strategy: _Strategy = _Full(self._box, np.array(start), self._sigma, self._popsize, sources)
        else:
            strategy = _Separable(np.array(start), self._sigma, self._popsize, sources)
        return _Replayed(strategy, start)


def _sources(box: Box, known: Sequence[Known]) -> list[tuple[Array, float]]:
    """Return earlier candidates as places and costs, none where they are too few to shape a distribution."""
    if len(known) < LEAST_SOURCES:
        return []
    return [(box.encode(one.parameters).numbers, -one.value) for one in known]


def _warm(sources: Sequence[tuple[Array, float]]) -> tuple[Array, float, Array]:
    """Return mean, step size and covariance of the best tenth, at least three (Nomura et al., AAAI 2021)."""
    share = min(1.0, max(0.1, 3.5 / len(sources)))
    mean, sigma, covariance = get_warm_start_mgd(list(sources), gamma=share, alpha=0.1)
    return np.clip(mean, 0.02, 0.98), sigma, covariance


class _Full:
    """CatCMAwM: numbers, grids and choices, full covariance."""

    def __init__(
        self, box: Box, start: Array, sigma: float, popsize: int, sources: Sequence[tuple[Array, float]]
    ) -> None:
        mean, covariance = np.clip(start, 0.02, 0.98), np.eye(len(start))
        if sources:
            mean, sigma, covariance = _warm(sources)
        grids = [list(np.linspace(0, 1, len(grid))) for grid in box.grids.values()]
        self._cma = CatCMAwM(
            x_space=[[0.0, 1.0]] * len(box.ranges) or None,
            z_space=grids or None,
            c_space=[len(values) for values in box.choices.values()] or None,
            population_size=popsize,
            mean=mean,
            sigma=sigma,
            cov=covariance,
            seed=0,
        )

    def ask(self, seed: int) -> dict[str, list[float]]:
        self._cma.reseed_rng(seed % 2**32)
        found = self._cma.ask()
        chosen = [] if found.c is None else [int(index) for index in found.c.argmax(axis=1)]
        parts = [part for part in (found.x, found.z) if part is not None]
        return {
            "numbers": [float(number) for number in np.concatenate(parts)],
            "raw": [float(number) for number in found._v_raw],
            "choices": [float(index) for index in chosen],
        }

    def tell(self, told: Sequence[tuple[Mapping[str, Sequence[float]], float]]) -> None:
        """Tell a generation; as long as no generation's middle half ever differed, the whole one sizes the penalty.

        Where the race stopped most of the first generation, their costs are equal, and the library would take the
        median of no spread at all: penalties that are no numbers.
        """
        spreads: list[float] = self._cma._iqhist_values
        costs = sorted(cost for _, cost in told)
        borrowed = not spreads and costs[3 * len(costs) // 4] == costs[len(costs) // 4]
        if borrowed:
            spreads.append(costs[-1] - costs[0] or 1.0)
        self._cma.tell([(self._solution(solution), cost) for solution, cost in told])
        if borrowed:
            spreads.clear()

    def _solution(self, kept: Mapping[str, Sequence[float]]) -> Any:
        chosen = None
        if self._cma.n_categorical:
            chosen = np.zeros((self._cma.n_categorical, int(self._cma._Kmax)), dtype=bool)
            for place, index in enumerate(kept["choices"]):
                chosen[place, int(index)] = True
        return CatCMAwM.Solution(c=chosen, _v_raw=np.array(kept["raw"]))


class _Separable:
    """SepCMA: many continuous numbers, each with a variance of its own."""

    def __init__(self, start: Array, sigma: float, popsize: int, sources: Sequence[tuple[Array, float]]) -> None:
        mean = np.clip(start, 0.02, 0.98)
        if sources:
            mean, sigma, _ = _warm(sources)
        bounds = np.tile([0.0, 1.0], (len(mean), 1))
        self._cma = SepCMA(mean=mean, sigma=sigma, bounds=bounds, population_size=popsize, seed=0)

    def ask(self, seed: int) -> dict[str, list[float]]:
        self._cma.reseed_rng(seed % 2**32)
        return {"numbers": [float(number) for number in self._cma.ask()], "choices": []}

    def tell(self, told: Sequence[tuple[Mapping[str, Sequence[float]], float]]) -> None:
        self._cma.tell([(np.array(solution["numbers"]), cost) for solution, cost in told])
