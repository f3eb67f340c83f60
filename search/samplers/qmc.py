"""Quasi-Monte Carlo: a scrambled Sobol sequence, more even than random draws (Bergstra & Bengio, 2012)."""

import warnings
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, QMCSampler

from search.samplers import SamplerContext


def make(context: SamplerContext, **arguments: Any) -> BaseSampler:
    """Return Optuna's QMC sampler; choices, which a sequence cannot order, are drawn independently."""
    defaults = {"scramble": True, "warn_independent_sampling": False, "warn_asynchronous_seeding": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)  # warn_independent_sampling goes away in Optuna 6
        return QMCSampler(seed=context.study_seed, **{**defaults, **arguments})
