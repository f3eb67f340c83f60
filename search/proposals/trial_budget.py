"""What a search space deserves: its dimensions, how many trials each needs, and what the budget does not cover."""

from collections.abc import Iterator
from dataclasses import dataclass

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.samplers import SamplerContext, chosen_sampler
from search.space.family import Family
from search.space.transform import Box, grid_values
from search.study.study import LoadedStudy

PER_NUMBER = 10
"""Trials per number: the rule n = 10 d (Loeppky, Sacks & Welch, "Choosing the sample size of a computer experiment",
Technometrics 2009)."""
PER_CHOICE = 3
"""Trials per value of a choice: so often each must be seen before one can be told from another."""
LEARNING = 2
"""Trials per squared dimension in which CMA-ES learns a full covariance, at populations of 8 to 12 (from the learning
rates of Hansen's tutorial, arXiv 1604.00772)."""
MANY = 500
"""Trials from which on a Gaussian process takes its time; measured by itself on six dimensions, one thread: 0.25 s of
CPU a proposal after 100 trials, 0.8 s after 500, then with the cube."""


@dataclass(frozen=True)
class Row:
    """One dimension.

    Attributes:
        family: Its family.
        name: The hole's name.
        kind: ``number``, ``whole number`` or ``choice``.
        range: What it may be, in words.
        used_by: Merge methods that use it; empty when every candidate does.
        places: Number of places in the recipe that take its value.
        trials: Trials that it deserves.
    """

    family: str
    name: str
    kind: str
    range: str
    used_by: tuple[str, ...]
    places: int
    trials: int


@dataclass(frozen=True)
class Budget:
    """A study's dimensions against its trials.

    Attributes:
        rows: Every dimension.
        families: Trials that each family deserves.
        trials: Trials that the study has.
        candidates: Number of different candidates; None where a hole is a continuous range.
        sampler: The sampler that will be used.
        covariance: Dimensions of the full covariance that the sampler would rather have none of; 0 for others.
    """

    rows: tuple[Row, ...]
    families: dict[str, int]
    trials: int
    candidates: int | None
    sampler: str
    covariance: int = 0

    @property
    def deserved(self) -> int:
        """Return the trials that all families deserve together."""
        return sum(self.families.values())

    def warnings(self) -> Iterator[str]:
        """Go through what is wrong with the budget."""
        if self.trials < self.deserved:
            widest = max(self.families, key=lambda name: self.families[name])
            yield (
                f"the holes deserve {self.deserved} trials, the study has {self.trials}: raise search.trials, share "
                f"holes by name, shorten gradients or fix what matters least, first in '{widest}'"
            )
        if self.candidates is not None and self.candidates < self.trials:
            yield f"the space has {self.candidates} candidates, fewer than the {self.trials} trials"
        if self.trials < (needed := LEARNING * self.covariance**2):
            yield (
                f"cmaes learns how {self.covariance} dimensions go together in about {needed} trials, before which it "
                "only moves its mean and step; without choices, int and step it would learn each one's scale instead"
            )
        if self.sampler == "gp" and self.trials > MANY:
            yield (
                f"gp looks at every earlier trial: a proposal takes a second of CPU after {MANY} trials and grows with "
                "their cube; tpe and cmaes stay within a tenth of a second"
            )


def budget_of(study: LoadedStudy) -> Budget:
    """Return a study's dimensions and what they deserve."""
    settings, space = study.file.search, study.space
    rows = tuple(row for family in space.families.values() for row in _rows(family))
    families = {}
    for name, family in space.families.items():
        size, wanted = family.count(), sum(row.trials for row in rows if row.family == name)
        families[name] = wanted if size is None else min(wanted, size)
    context = SamplerContext(space, settings.trials, 0, 0, study.objectives())
    sampler = chosen_sampler(settings.sampler, context)
    return Budget(rows, families, settings.trials, space.count(), sampler, _covariance(study, sampler))


def _covariance(study: LoadedStudy, sampler: str) -> int:
    """Return the numbers of a large space that only a full covariance can hold; 0 for another space or sampler."""
    if sampler != "cmaes":
        return 0
    from search.samplers.cmaes import LARGE, has_full_covariance

    box = Box(study.space.dimensions())
    return len(box.numbers) if len(box.numbers) > LARGE and has_full_covariance(box) else 0


def _rows(family: Family) -> Iterator[Row]:
    for dimension in family.dimensions:
        kind, words = _in_words(dimension.distribution)
        used = tuple(sorted(dimension.methods or ()))
        places = len(dimension.paths)
        yield Row(family.name, dimension.name, kind, words, used, places, _deserved(dimension.distribution))


def _deserved(distribution: BaseDistribution) -> int:
    points = grid_values(distribution)
    if points is None:
        return PER_NUMBER
    if len(points) == 1:
        return 0
    return (
        PER_CHOICE * len(points)
        if isinstance(distribution, CategoricalDistribution)
        else min(PER_NUMBER, PER_CHOICE * len(points))
    )


def _in_words(distribution: BaseDistribution) -> tuple[str, str]:
    if isinstance(distribution, CategoricalDistribution):
        return "choice", ", ".join(map(str, distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    words = f"{distribution.low:g} to {distribution.high:g}"
    if distribution.log:
        words += ", log"
    if distribution.step is not None and not (isinstance(distribution, IntDistribution) and distribution.step == 1):
        words += f", step {distribution.step:g}"
    return ("whole number" if isinstance(distribution, IntDistribution) else "number"), words
