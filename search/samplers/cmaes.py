"""CMA-ES (Hansen & Ostermeier, 2001): a normal distribution that moves to better recipes, generation by generation.

Three variants of the library ``cmaes`` cover the spaces: with a margin for grids (Hamano et al., GECCO 2022), with
categorical distributions for choices (CatCMA, Hamano et al., GECCO 2024), and separable for more than 20 continuous
dimensions (Ros & Hansen, PPSN 2008).

The state is a fold over the study's trials, so a resumed study proposes what an uninterrupted one would have: each
generation is the first `popsize` trials that came back of those that began after the generation before was told. With
several scorers, what was under way meanwhile stems from the distribution before and is left out.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from cmaes import CatCMA, CMAwM, SepCMA, get_warm_start_mgd
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search.errors import StudyError
from search.samplers import LEARNED, SamplerContext, proposal_seed
from search.space.transform import Array, Box, Point

Strategy: TypeAlias = CMAwM | CatCMA | SepCMA

LARGE = 20
"""Dimensions above which a continuous space gets the separable form, and the larger generation."""
MIN_SOURCES = 5
"""Fewer earlier candidates than this do not shape a distribution."""


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


class CovarianceSampler(BaseSampler):
    """An evolution strategy as an Optuna sampler.

    Args:
        box: The space as numbers in [0, 1] and choices; what a candidate does not use drifts.
        context: Seeds, earlier results, and the memo that keeps the strategy between proposals.
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
        """Return the whole box."""
        del study, trial
        return dict(self._box.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values of one draw; nothing for a trial whose values are given."""
        del search_space
        if not _is_proposal(trial):
            return {}
        return dict(self._box.decode(_draw(self._strategy(study), self._context.seed)))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value: only dimensions of a single value come here."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _strategy(self, study: Study) -> Strategy:
        """Return the strategy after every full generation: the first to come back of those that it proposed."""
        trials, memo, size = study.get_trials(deepcopy=False), self._context.memo, self._popsize
        proposals = [trial for trial in trials if _is_proposal(trial)]
        strategy, since = memo.get("cmaes") or (self._first(trials, proposals), -math.inf)
        scored = [trial for trial in proposals if trial.state == TrialState.COMPLETE]
        while True:
            generation = sorted((t for t in scored if _begun(t) >= since), key=_ended)[:size]
            memo["cmaes"] = strategy, since
            if len(generation) < size:
                return strategy
            points = [self._point(strategy, trial) for trial in generation]
            costs = [-float(trial.value or 0.0) for trial in generation]
            strategy.tell([(_solution(strategy, point), cost) for point, cost in zip(points, costs, strict=True)])
            since = _ended(generation[-1])

    def _point(self, strategy: Strategy, trial: FrozenTrial) -> Point:
        """Return where a proposal lies: as drawn, which says more than its rounded values; drawn anew what it lacks."""
        drawn = _draw(strategy, proposal_seed(self._context.study_seed, trial.number))
        values = self._box.decode(drawn)
        other = {name: value for name, value in trial.params.items() if values.get(name, value) != value}
        return self._box.encode(other, drawn)

    def _first(self, trials: Sequence[FrozenTrial], proposals: Sequence[FrozenTrial]) -> Strategy:
        """Return the strategy before its first generation: around the best that was known then, else in the middle."""
        begun = min(map(_begun, proposals), default=math.inf)
        known = [
            trial
            for trial in trials
            if not _is_proposal(trial) and trial.state == TrialState.COMPLETE and _ended(trial) <= begun
        ]
        best = max(known, key=lambda t: float(t.value or 0.0), default=None)
        mean, sigma = self._box.encode({} if best is None else best.params).numbers, self._sigma
        covariance = np.eye(len(mean))
        sources = [(self._box.encode(one.parameters).numbers, -one.value) for one in self._context.sources]
        if len(sources) >= MIN_SOURCES:
            mean, sigma, covariance = _warm(sources)
        return _new_strategy(self._box, np.clip(mean, 0.02, 0.98), sigma, covariance, self._popsize)


def _is_proposal(trial: FrozenTrial) -> bool:
    """Tell whether a sampler proposed a trial: it was neither lined up, nor is it a baseline to learn from."""
    return "fixed_params" not in trial.system_attrs and LEARNED not in trial.user_attrs


def _begun(trial: FrozenTrial) -> float:
    return math.inf if trial.datetime_start is None else trial.datetime_start.timestamp()


def _ended(trial: FrozenTrial) -> float:
    return math.inf if trial.datetime_complete is None else trial.datetime_complete.timestamp()


def _warm(sources: Sequence[tuple[Array, float]]) -> tuple[Array, float, Array]:
    """Return mean, step size and covariance of the best tenth, at least three (Nomura et al., AAAI 2021)."""
    share = min(1.0, max(0.1, 3.5 / len(sources)))
    mean, sigma, covariance = get_warm_start_mgd(list(sources), gamma=share, alpha=0.1)
    return mean, sigma, covariance


def _new_strategy(box: Box, mean: Array, sigma: float, covariance: Array, size: int) -> Strategy:
    if not has_full_covariance(box):
        return SepCMA(mean, sigma, np.tile([0.0, 1.0], (len(mean), 1)), population_size=size, seed=0)
    if box.choices:
        counts = np.array([len(values) for values in box.choices.values()])
        return CatCMA(mean, sigma, counts, population_size=size, cov=covariance, seed=0)
    bounds = np.array([[-np.inf, np.inf]] * len(box.ranges) + [[0.0, 1.0]] * len(box.grids))
    steps = np.array([0.0] * len(box.ranges) + [1 / (len(grid) - 1) for grid in box.grids.values()])
    return CMAwM(mean, sigma, bounds, steps, population_size=size, cov=covariance, seed=0)


def _draw(strategy: Strategy, seed: int) -> Point:
    """Return a draw, moved to the edge where it lies outside of the box: the best values often lie there."""
    strategy.reseed_rng(seed % 2**32)
    drawn = strategy.ask()
    if isinstance(strategy, CatCMA):
        numbers, chosen = drawn
        return Point(np.clip(numbers, 0.0, 1.0), tuple(map(int, chosen.argmax(axis=1))))
    return Point(np.clip(drawn[1] if isinstance(strategy, CMAwM) else drawn, 0.0, 1.0), ())


def _solution(strategy: Strategy, point: Point) -> Any:
    if not isinstance(strategy, CatCMA):
        return point.numbers
    chosen = np.zeros((strategy.cat_num.size, strategy.cat_num.max()), dtype=bool)
    chosen[np.arange(len(point.choices)), point.choices] = True
    return point.numbers, chosen
