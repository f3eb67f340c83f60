"""Samplers: the folder is the registry; each file has one function ``make`` that returns Optuna's sampler.

A sampler is made anew for every trial from a seed of its own, so that a resumed study proposes what an
uninterrupted one would have proposed.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from search.errors import StudyError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from search.space import SearchSpace

Arguments = Mapping[str, float | int | bool | str]
"""Arguments of Optuna's sampler, by its own names."""


@dataclass(frozen=True)
class SamplerContext:
    """What a sampler may depend on.

    Attributes:
        space: The search space.
        trials: The budget, in candidates.
        seed: Seed of this one proposal.
        study_seed: Seed of the whole study, for samplers that walk along one sequence.
    """

    space: "SearchSpace"
    trials: int
    seed: int
    study_seed: int


def sampler_names() -> tuple[str, ...]:
    """Return every sampler's name, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def make_sampler(name: str, context: SamplerContext, arguments: Arguments) -> "BaseSampler":
    """Return the sampler called ``name``.

    Raises:
        StudyError: Optuna's sampler does not take the arguments.
    """
    sampler: BaseSampler
    try:
        sampler = import_module(f"{__name__}.{name}").make(context, **arguments)
    except (TypeError, ValueError) as error:
        raise StudyError(f"search.sampler_args: sampler '{name}' refuses them: {error}") from None
    return sampler
