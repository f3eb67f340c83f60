"""Gaussian process with log expected improvement (Jones et al., 1998; Ament et al., NeurIPS 2023): few, dear trials."""

import warnings
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler

from search.samplers import SamplerContext


def make(context: SamplerContext, **arguments: Any) -> BaseSampler:
    """Return Optuna's Gaussian process; parameters that not every candidate has are drawn at random."""
    defaults = {"n_startup_trials": max(3, min(10, context.trials // 4)), "warn_independent_sampling": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)  # warn_independent_sampling goes away in Optuna 6
        return GPSampler(seed=context.seed, **{**defaults, **arguments})
