"""CMA-ES (Hansen & Ostermeier, 2001) for plain numbers; separable above 20 dimensions (Ros & Hansen, 2008)."""

import warnings
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler

from search.samplers import SamplerContext


def make(context: SamplerContext, **arguments: Any) -> BaseSampler:
    """Return Optuna's CMA-ES with a population of 8, 12 above 20 dimensions."""
    large = context.space.size() > 20
    defaults = {"popsize": 12 if large else 8, "use_separable_cma": large, "warn_independent_sampling": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return CmaEsSampler(seed=context.seed, **{**defaults, **arguments})
