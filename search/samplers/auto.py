"""The default: the sampler that suits the space, the budget and the objective."""

from typing import Any

from optuna.samplers import BaseSampler

from search.samplers import SamplerContext, make_sampler

GENERATIONS = 5
"""An evolution strategy needs a few generations before it beats TPE; below five of them, TPE is used."""


def make(context: SamplerContext, **arguments: Any) -> BaseSampler:
    """Return the sampler that ``choose`` names."""
    return make_sampler(choose(context), context, arguments)


def choose(context: SamplerContext) -> str:
    """Return the name of a sampler.

    Brute force where the budget covers every candidate; NSGA-II for a Pareto front, TPE below five generations;
    CMA-ES for one family of plain numbers and a budget that feeds it; else TPE, which learns each family and each
    merge method on its own.
    """
    size = context.space.count()
    if size is not None and size <= context.trials:
        return "brute_force"
    if context.objectives > 1:
        return "nsga2" if context.trials >= GENERATIONS * 12 else "tpe"
    suits = context.space.continuous() and context.space.size() > 1 and context.trials >= GENERATIONS * 8
    return "cmaes" if suits else "tpe"
