"""A recipe's modules (or its one model) as lists of slices, with the layers that each parent has of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from merge.architecture.layers import LayerStack, find_layers
from merge.architecture.modules import TEXT, owner, role, roles, section
from merge.checkpoint.reader import Checkpoint
from merge.errors import RecipeError
from merge.method import AbstractMethod
from merge.planning.compatibility import Differences
from merge.planning.parameters import Scope, Settings
from merge.planning.tensor_slots import PlannedSlice
from merge.recipe.schema import ListedModel, Module, Recipe, Slice

Open = Callable[[str], Checkpoint]


@dataclass
class ModulePart:
    """One module of a model, or all of it.

    Args:
        path: Where the recipe speaks of it, empty or ending in a dot.
        role: What it is: a text decoder, a vision tower.
        owns: Whether a tensor belongs to it.
        opened: Opens a checkpoint by reference.
        slices: Its slices.
        layers: Where the layers lie, by part and model; remembered from one recipe to the next.
    """

    path: str
    role: str
    owns: Callable[[str], bool]
    opened: Open
    slices: list[PlannedSlice] = field(default_factory=list)
    layers: dict[tuple[str, str], LayerStack] = field(default_factory=dict)

    def names(self, reference: str) -> list[str]:
        """Return the names of its tensors in a model."""
        return [name for name in self.opened(reference).names if self.owns(name)]

    def stack(self, reference: str) -> LayerStack:
        """Return where its layers lie in a model; only a text decoder must have some."""
        place = (self.path or self.role, reference)
        if place not in self.layers:
            config = self.opened(reference).config
            key = section(config, self.role)
            stated: Mapping[str, Any] = config if key is None else config[key]
            found = find_layers(self.names(reference), stated, reference, required=self.role == TEXT)
            self.layers[place] = found
        return self.layers[place]


@dataclass
class Divider:
    """Divides a recipe into parts and slices.

    Args:
        recipe: The recipe.
        method: Its method.
        opened: Opens a checkpoint by reference.
        compat: Follow the reference.
        allow_crimes: Let architectures differ.
    """

    recipe: Recipe
    method: type[AbstractMethod]
    opened: Open
    compat: bool
    allow_crimes: bool
    _layers: dict[tuple[str, str], LayerStack] = field(default_factory=dict)
    _roles: tuple[str, ...] = ()

    def parts(self) -> list[ModulePart]:
        """Return the parts, in the order of the recipe; slices are numbered through all of them.

        Raises:
            RecipeError: A module holds no tensor, a tensor is in no module, or layers are not there.
            CompatibilityError: The parents have other numbers of layers.
        """
        shared: list[Settings] = [self.recipe.parameters or {}]
        parts: list[ModulePart] = []
        if self.recipe.modules is None:
            for part in self._by_role() if self.recipe.models is not None else [self._whole()]:
                self._fill(part, self.recipe, shared, sum(len(done.slices) for done in parts))
                parts.append(part)
            return parts
        self._check_modules(self.recipe.modules)
        for name, module in self.recipe.modules.items():
            part = self._named(name)
            self._fill(part, module, [module.parameters or {}, *shared], sum(len(done.slices) for done in parts))
            parts.append(part)
        return parts

    def _whole(self) -> ModulePart:
        return ModulePart("", TEXT, lambda _: True, self.opened, layers=self._layers)

    def _by_role(self) -> list[ModulePart]:
        """Return a part for each role, so that gradients run over the layers of each; one for a plain model."""
        found = self._roles = self._roles or roles(self.opened(self.recipe.references()[0]).names)
        if TEXT not in found or len(found) == 1:
            return [self._whole()]
        return [ModulePart("", kind, partial(_has_role, kind), self.opened, layers=self._layers) for kind in found]

    def _named(self, name: str) -> ModulePart:
        modules = tuple(self.recipe.modules or ())
        first = next(n for n in self.opened(self.recipe.references()[0]).names if owner(n, modules) == name)
        kind = TEXT if len(modules) == 1 else role(first)
        return ModulePart(f"modules.{name}.", kind, partial(_is_held, modules, name), self.opened, layers=self._layers)

    def _check_modules(self, modules: Mapping[str, Module]) -> None:
        reference = self.recipe.references()[0]
        names = self.opened(reference).names
        owners = {name: owner(name, modules) for name in names}
        known = roles(names)
        remedy = f"{reference} has {', '.join(known) if len(known) > 1 else 'one module, default'}"
        lacking = [module for module in modules if module not in owners.values()]
        faults = [f"modules.{module}: no tensor belongs to it; {remedy}" for module in lacking]
        lost = [name for name, module in owners.items() if module is None]
        if lost and not faults:
            faults.append(f"modules: must hold every tensor, got none for {lost[0]} ({len(lost)} in all); {remedy}")
        self._raise_if(faults)

    def _fill(self, part: ModulePart, source: Recipe | Module, shared: list[Settings], number: int) -> None:
        if source.models is not None:
            part.slices = [self._all_layers(part, source.models, shared, number)]
            return
        slices = source.slices or ()
        part.slices = [self._piece(number + index, piece, shared) for index, piece in enumerate(slices)]
        self._check_ranges(part, slices)

    def _all_layers(
        self, part: ModulePart, models: Sequence[ListedModel], shared: list[Settings], number: int
    ) -> PlannedSlice:
        names = list(dict.fromkeys(entry.model for entry in models))
        base = self.recipe.base_model
        if base is not None and base not in names and (self.method.base_model != "ignored" or self.compat):
            names.append(base)
            self._check_appended(len(names))
        counts = {name: part.stack(name).count for name in names}
        differences = Differences(self.recipe.place)
        differences.layer_counts(counts)
        if not self.allow_crimes and len(set(counts.values())) > 1:
            differences.architectures([self.opened(name) for name in names])
        differences.raise_if_any()
        own = tuple((entry.model, entry.parameters or {}) for entry in models)
        sources = tuple((name, (0, count)) for name, count in counts.items())
        return PlannedSlice(number, sources, base, Scope(own, tuple(shared)))

    def _check_appended(self, count: int) -> None:
        """Refuse a base model that the reference takes for one parent too many of a method that has no use for it."""
        most = self.method.parents[1]
        if self.method.base_model == "ignored" and most is not None and count > most:
            said = f"must not be given: the reference counts it among the models, of which {self.method.method} takes"
            self._raise_if([f"base_model: {said} {most}"])

    def _piece(self, number: int, piece: Slice, shared: list[Settings]) -> PlannedSlice:
        own = tuple((source.model, source.parameters or {}) for source in piece.sources)
        last = {source.model: source.layer_range for source in piece.sources}
        scope = Scope(own, (piece.parameters or {}, *shared))
        return PlannedSlice(number, tuple(last.items()), piece.base_model or self.recipe.base_model, scope)

    def _check_ranges(self, part: ModulePart, slices: Sequence[Slice]) -> None:
        faults = []
        for number, piece in enumerate(slices):
            for index, source in enumerate(piece.sources):
                count = part.stack(source.model).count
                if source.layer_range[1] > count:
                    place = f"{part.path}slices[{number}].sources[{index}].layer_range"
                    got = list(source.layer_range)
                    faults.append(f"{place}: must end at {count} at most, the layers of {source.model}, got {got}")
        self._raise_if(faults)

    def _raise_if(self, faults: Sequence[str]) -> None:
        if faults:
            join = "." if ": " in self.recipe.place else ": "
            raise RecipeError("\n".join(f"{self.recipe.place}{join}{fault}" for fault in faults))


def _has_role(kind: str, name: str) -> bool:
    return role(name) == kind


def _is_held(modules: Sequence[str], module: str, name: str) -> bool:
    return owner(name, modules) == module
