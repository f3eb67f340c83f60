"""Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), multivariate, one group per family."""

import warnings
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler

from search.samplers import SamplerContext


def make(context: SamplerContext, **arguments: Any) -> BaseSampler:
    """Return Optuna's TPE; a quarter of the budget, 10 trials at most, is drawn at random first."""
    defaults = {"multivariate": True, "group": True, "n_startup_trials": max(3, min(10, context.trials // 4))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=context.seed, **{**defaults, **arguments})
