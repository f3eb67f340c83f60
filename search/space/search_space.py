"""The search space of a study: one or more families, asked from an Optuna trial and read back from recipes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from merge.recipe.schema import Recipe
from search.errors import SpaceError
from search.space.family import Family
from search.space.holes import Scalar
from search.space.layer_stacking import plain_recipe

FAMILY = "family"
"""Name of the choice between families, where a study has several."""


@dataclass(frozen=True, slots=True)
class RecipeText:
    """A plain recipe as JSON: an eighth of a typed one, where thousands are kept.

    Attributes:
        json: The document.
        place: File and YAML path of the family.
    """

    json: str
    place: str

    def recipe(self) -> Recipe:
        """Return the typed recipe."""
        return plain_recipe(json.loads(self.json), self.place)


@dataclass(frozen=True)
class Candidate:
    """A filled recipe.

    Attributes:
        family: Name of its family.
        values: Value of each hole that it uses, by the hole's name inside the family.
        document: The plain recipe as a mapping.
        place: File and YAML path of the family.
    """

    family: str
    values: Mapping[str, Scalar]
    document: Mapping[str, object]
    place: str

    def recipe(self) -> Recipe:
        """Return the typed recipe.

        Raises:
            merge.errors.RecipeError: The values do not go together, such as layer ranges of different lengths.
        """
        return plain_recipe(self.document, self.place)

    def text(self) -> RecipeText:
        """Return the plain recipe as text."""
        return RecipeText(json.dumps(self.document), self.place)

    def yaml(self) -> str:
        """Return the plain recipe as YAML."""
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # twenty times faster, the same text
        return str(yaml.dump(dict(self.document), Dumper=dumper, sort_keys=False))


class SearchSpace:
    """All families of a study as one Optuna space.

    With several families the first parameter is the choice ``family`` and every other parameter is named
    ``FAMILY.HOLE``, so that samplers which group parameters learn each family on its own.
    """

    def __init__(self, families: Mapping[str, Family]) -> None:
        self.families = dict(families)
        self._several = len(self.families) > 1

    def suggest(self, trial: BaseTrial) -> Candidate:
        """Fill the holes of one candidate with what the trial's sampler proposes."""
        family = next(iter(self.families.values()))
        if self._several:
            family = self.families[str(trial.suggest_categorical(FAMILY, list(self.families)))]
        values: dict[str, Scalar] = {}
        for dimension in family.dimensions:
            if dimension.methods is None:
                values[dimension.name] = _suggest(trial, self._full(family, dimension.name), dimension.distribution)
        for dimension in family.active(values):
            if dimension.methods is not None:
                values[dimension.name] = _suggest(trial, self._full(family, dimension.name), dimension.distribution)
        return Candidate(family.name, values, family.decode(values), family.place)

    def parameters(self, family: str, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return values under their full Optuna names, for ``enqueue_trial`` and ``create_trial``."""
        full = {self._full(self.families[family], name): value for name, value in values.items()}
        return {FAMILY: family, **full} if self._several else full

    def distributions(self, family: str, values: Mapping[str, Scalar]) -> dict[str, BaseDistribution]:
        """Return the distributions of a candidate's parameters under their full Optuna names."""
        known = {d.name: d.distribution for d in self.families[family].dimensions}
        full = {self._full(self.families[family], name): known[name] for name in values}
        return {FAMILY: CategoricalDistribution(list(self.families)), **full} if self._several else full

    def candidate(self, parameters: Mapping[str, Scalar]) -> Candidate:
        """Return the candidate of a finished trial's parameters."""
        family = self.families[str(parameters[FAMILY])] if self._several else next(iter(self.families.values()))
        stem = f"{family.name}." if self._several else ""
        values = {name.removeprefix(stem): value for name, value in parameters.items() if name != FAMILY}
        return Candidate(family.name, values, family.decode(values), family.place)

    def encode(self, document: Mapping[str, object]) -> tuple[str, dict[str, Scalar]] | None:
        """Find the first family that a plain recipe belongs to, and its values; None when it fits in none."""
        for family in self.families.values():
            try:
                return family.name, family.encode(document)
            except SpaceError:
                continue
        return None

    def dimensions(self) -> dict[str, BaseDistribution]:
        """Return every dimension of every family under its full Optuna name, the choice of family first."""
        full = {self._full(f, d.name): d.distribution for f in self.families.values() for d in f.dimensions}
        return {FAMILY: CategoricalDistribution(list(self.families)), **full} if self._several else full

    def count(self) -> int | None:
        """Return the number of different candidates; None where a hole is a continuous range."""
        counts = [family.count() for family in self.families.values()]
        return None if None in counts else sum(count for count in counts if count is not None)

    def continuous(self) -> bool:
        """Tell whether the space is one family of plain numbers, where CMA-ES applies."""
        dimensions = [d for family in self.families.values() for d in family.dimensions]
        return not self._several and all(isinstance(d.distribution, FloatDistribution) for d in dimensions)

    def size(self) -> int:
        """Return the number of dimensions of the largest family."""
        return max(len(family.dimensions) for family in self.families.values())

    def _full(self, family: Family, name: str) -> str:
        return f"{family.name}.{name}" if self._several else name


def _suggest(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Scalar:
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)
