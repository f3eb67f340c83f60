"""Samplers: the folder is the registry; each file has one function ``make`` that returns Optuna's sampler.

A sampler is made anew for every trial from a seed of its own, so that a resumed study proposes what an
uninterrupted one would have proposed.
"""

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from search.errors import StudyError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from search.space.search_space import SearchSpace

LEARNED = "baseline"
"""User attribute of a finished trial that no sampler proposed: a scored recipe that samplers learn from."""

Arguments = Mapping[str, float | int | bool | str]
"""Arguments of a sampler, by its own names."""


@dataclass(frozen=True)
class SourceTrial:
    """A candidate that an earlier study scored.

    Attributes:
        parameters: Its values by full Optuna name.
        value: What it was worth there; only the order among the candidates of one study means anything.
    """

    parameters: Mapping[str, Any]
    value: float


@dataclass(frozen=True)
class SamplerContext:
    """What a sampler may depend on.

    Attributes:
        space: The search space.
        trials: The budget, in candidates.
        seed: Seed of this one proposal.
        study_seed: Seed of the whole study, for samplers that walk along one sequence.
        objectives: How many values a trial is told; more than one for a Pareto front.
        sources: What earlier studies scored in this space.
        memo: What a sampler may keep between proposals to save time; never the only place of anything.
    """

    space: "SearchSpace"
    trials: int
    seed: int
    study_seed: int
    objectives: int = 1
    sources: Sequence[SourceTrial] = ()
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)


def proposal_seed(study_seed: int, number: int) -> int:
    """Return the seed of the proposal of one trial."""
    return int(np.random.SeedSequence((study_seed, number)).generate_state(1)[0])


def sampler_names() -> tuple[str, ...]:
    """Return every sampler's name, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def make_sampler(name: str, context: SamplerContext, arguments: Arguments) -> "BaseSampler":
    """Return the sampler called ``name``.

    Raises:
        StudyError: The sampler does not take the arguments, or does not suit the space or the objective.
    """
    sampler: BaseSampler
    try:
        sampler = import_module(f"{__name__}.{name}").make(context, **arguments)
    except (TypeError, ValueError) as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(f"search.sampler_args: sampler '{name}' refuses them: {error}") from None
    return sampler


def chosen_sampler(name: str, context: SamplerContext) -> str:
    """Return the sampler that a name stands for: ``auto`` stands for another one."""
    if name != "auto":
        return name
    return str(import_module(f"{__name__}.auto").choose(context))
