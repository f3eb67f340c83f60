"""Independent uniform draws: the yardstick for every other sampler."""

from typing import Any

from optuna.samplers import BaseSampler, RandomSampler

from search.samplers import SamplerContext


def make(context: SamplerContext, **arguments: Any) -> BaseSampler:
    """Return Optuna's random sampler."""
    return RandomSampler(seed=context.seed, **arguments)
