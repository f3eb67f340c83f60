"""The default: CMA-ES for one family of plain numbers and a budget that feeds it, else TPE."""

from typing import Any

from optuna.samplers import BaseSampler

from search.samplers import SamplerContext, cmaes, tpe

GENERATIONS = 5
"""CMA-ES needs a few generations before it beats TPE; below five populations of eight, TPE is used."""


def make(context: SamplerContext, **arguments: Any) -> BaseSampler:
    """Return the sampler that suits the space and the budget."""
    suits = context.space.continuous() and context.space.size() > 1 and context.trials >= GENERATIONS * 8
    return cmaes.make(context, **arguments) if suits else tpe.make(context, **arguments)
