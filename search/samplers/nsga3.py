"""NSGA-III (Deb & Jain, 2014): a genetic sampler for three objectives and more."""

import warnings
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIIISampler

from search.samplers import SamplerContext


def make(context: SamplerContext, **arguments: Any) -> BaseSampler:
    """Return Optuna's NSGA-III with a population of 16, the size that budgets of some hundred trials bear."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return NSGAIIISampler(seed=context.seed, **{"population_size": 16, **arguments})
