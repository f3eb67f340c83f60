"""Brute force: every candidate of a small space once, in random order."""

import warnings
from collections.abc import Sequence
from typing import Any

from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, BruteForceSampler
from optuna.trial import FrozenTrial, TrialState

from search.errors import StudyError
from search.samplers import SamplerContext


class _Exhaustive(BruteForceSampler):
    """Optuna's sampler without its call of ``Study.stop``, which only ``Study.optimize`` understands."""

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        del study, trial, state, values


def make(context: SamplerContext, **arguments: Any) -> BaseSampler:
    """Return Optuna's brute-force sampler.

    Raises:
        StudyError: A hole has infinitely many values.
    """
    if context.space.count() is None:
        raise StudyError(
            "search.sampler: brute_force needs holes with choices, int or step, got a continuous range; give it a step"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _Exhaustive(seed=context.seed, avoid_premature_stop=True, **arguments)
