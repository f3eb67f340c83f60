"""NSGA-II (Deb et al., 2002), Optuna's genetic sampler."""

from typing import Any

from optuna.samplers import BaseSampler, NSGAIISampler

from search.samplers import SamplerContext


def make(context: SamplerContext, **arguments: Any) -> BaseSampler:
    """Return Optuna's NSGA-II with a population of 12, the size that budgets of some hundred trials bear."""
    return NSGAIISampler(seed=context.seed, **{"population_size": 12, **arguments})
