"""Recipe and headers to what each output tensor is made of; no weight is read."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import torch

from merge.architecture.layers import (
    COUNT_KEYS,
    comes_first,
    is_embedding,
    is_head,
    is_recomputed,
    layer_count,
    with_layers,
)
from merge.architecture.mergekit_layout import is_inferred, outer_depth
from merge.architecture.modules import section
from merge.checkpoint.reader import Checkpoint
from merge.errors import RecipeError
from merge.method import AbstractMethod
from merge.methods import get_method
from merge.planning.compatibility import Differences
from merge.planning.modules_and_slices import Divider, ModulePart, Open
from merge.planning.parameters import Scope
from merge.planning.plan import Ingredient, Plan, TensorPlan
from merge.planning.tensor_slots import ParameterFiller, PlannedSlice, TensorSlot
from merge.recipe.schema import Recipe


@dataclass
class Planner:
    """Plans one recipe.

    Args:
        recipe: The recipe.
        opened: Opens a checkpoint by reference.
        compat: Follow the reference: its order of tensors and its dtypes.
        allow_crimes: Let architectures and vocabularies differ.
        vocabulary: Rows of the embeddings when the recipe has a tokenizer block.
    """

    recipe: Recipe
    opened: Open
    compat: bool = False
    allow_crimes: bool = False
    vocabulary: int | None = None
    _made: list[tuple[TensorSlot, TensorPlan]] = field(default_factory=list)
    _plan: Plan | None = None
    _divider: Divider | None = None

    def plan(self) -> Plan:
        """Return the plan.

        Raises:
            RecipeError: Layers or parameters are missing, or do not hold for a tensor.
            CompatibilityError: The parents do not fit each other.
        """
        recipe = self.recipe
        method = get_method(recipe.merge_method)
        parts = self._divided(method)
        slices = [piece for part in parts for piece in part.slices]
        self._differences = Differences(recipe.place)
        models = [self.opened(reference) for reference in dict.fromkeys(r for p in slices for r, _ in p.sources)]
        if not self.allow_crimes:
            self._differences.architectures(models)
        slots = [slot for part in parts for slot in (*self._layer_slots(part), *self._outer_slots(part))]
        self._made, faults, fill = [], dict[str, list[str]](), ParameterFiller(method, slices)
        for slot in sorted(slots, key=self._order):
            made = self._tensor(fill, slot, faults)
            self._made += [(slot, made)] if made is not None else []
        self._differences.raise_if_any()
        self._raise_if(faults)
        donor = recipe.base_model or slices[0].sources[0][0]
        tensors = [made for _, made in self._made]
        self._plan = Plan(tuple(tensors), self._config(donor, parts, tensors), donor)
        return self._plan

    def replan(self, recipe: Recipe) -> Plan:
        """Return the plan of a recipe that differs from the planned one in values of parameters alone.

        Raises:
            RecipeError: Parameters are missing, or do not hold for a tensor.
        """
        assert self._plan is not None
        self.recipe = recipe
        method = get_method(recipe.merge_method)
        slices = [piece for part in self._divided(method) for piece in part.slices]
        fill, faults, tensors = ParameterFiller(method, slices), dict[str, list[str]](), []
        for slot, made in self._made:
            pairs = [(parent.reference, parent.name) for parent in made.parents]
            instance = self._filled(fill, slot, pairs, made.shape, faults)
            if instance is not None:
                tensors.append(made.with_method(instance))
        self._raise_if(faults)
        return replace(self._plan, tensors=tuple(tensors))

    def scopes(self, recipe: Recipe) -> list[tuple[TensorSlot, TensorPlan, Scope]]:
        """Return each planned tensor, and where a recipe of the planned structure gives its parameters."""
        self.recipe = recipe
        slices = [piece for part in self._divided(get_method(recipe.merge_method)) for piece in part.slices]
        return [(slot, made, slices[slot.planned_slice.number].scope) for slot, made in self._made]

    def _divided(self, method: type[AbstractMethod]) -> list[ModulePart]:
        if self._divider is None:
            self._divider = Divider(self.recipe, method, self.opened, self.compat, self.allow_crimes)
        self._divider.recipe = self.recipe
        return self._divider.parts()

    def _raise_if(self, faults: dict[str, list[str]]) -> None:
        if faults:
            raise RecipeError("\n".join(f"{self.recipe.place}: {_told(*fault)}" for fault in faults.items()))

    def _order(self, slot: TensorSlot) -> tuple[str, bool]:
        """Return what tensors are sorted by; a head that a tied model lends its embedding follows that embedding."""
        return (max(slot.inputs.values()), is_head(slot.output)) if self.compat else (slot.output, False)

    def _layer_slots(self, part: ModulePart) -> Iterator[TensorSlot]:
        start = 0
        for piece in part.slices:
            components: dict[str, dict[int, list[str]]] = {}
            for reference, _ in piece.sources:
                components[reference] = self._components(part, reference)
            for offset in range(piece.length):
                depth = offset / (piece.length - 1) if piece.length > 1 else 1.0
                at = {reference: first + offset for reference, (first, _) in piece.sources}
                names = dict.fromkeys(c for ref, layer in at.items() for c in components[ref].get(layer, ()))
                for component in names:
                    inputs = {ref: part.stack(ref).name(layer, component) for ref, layer in at.items()}
                    output = part.stack(piece.sources[0][0]).name(start + offset, component)
                    if self._all_have(inputs):
                        yield TensorSlot(output, piece, depth, inputs)
            start += piece.length

    def _components(self, part: ModulePart, reference: str) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for name in part.names(reference):
            split = part.stack(reference).split(name)
            if split is not None and not is_recomputed(name, compat=self.compat):
                found.setdefault(split[0], []).append(split[1])
        return found

    def _outer_slots(self, part: ModulePart) -> Iterator[TensorSlot]:
        """Return the tensors outside the layers: embeddings follow the first slice, norm and head the last."""
        slices, seen = part.slices, dict[str, None]()
        for piece in (slices[0], slices[-1]):
            for reference, _ in piece.sources:
                outside = (n for n in part.names(reference) if part.stack(reference).split(n) is None)
                seen.update(dict.fromkeys(n for n in outside if not is_recomputed(n, compat=self.compat)))
        inferred = self.compat and is_inferred(self.opened(slices[0].sources[0][0]).config)
        for name in seen:
            piece = slices[0] if inferred or comes_first(name) else slices[-1]
            sources = piece.sources[: len(slices[0].sources)] if self.compat else piece.sources
            inputs = {reference: outer_name(self.opened(reference), name) for reference, _ in sources}
            if not any(name in self.opened(reference) for reference in inputs):
                continue
            if self._all_have(inputs):
                depth = outer_depth(name) if self.compat else 0.0
                yield TensorSlot(name, piece, depth, inputs, vocabulary=is_embedding(name) or is_head(name))

    def _all_have(self, inputs: Mapping[str, str]) -> bool:
        lacking = [(reference, name) for reference, name in inputs.items() if name not in self.opened(reference)]
        for reference, name in lacking:
            self._differences.missing(name, reference)
        return not lacking

    def _filled(
        self,
        fill: ParameterFiller,
        slot: TensorSlot,
        pairs: Sequence[tuple[str, str]],
        shape: tuple[int, ...] | None,
        faults: dict[str, list[str]],
    ) -> AbstractMethod | None:
        """Return the method with the parameters of one tensor; what is wrong with them is added to the faults."""
        instance, missing = fill(slot, pairs)
        for lack in missing:
            faults.setdefault(lack, [])
        if instance is not None and shape is not None:
            fault = instance.fault(math.prod(shape), compat=self.compat)
            if fault is not None:
                faults.setdefault(fault, []).append(slot.output)
        return instance

    def _tensor(self, fill: ParameterFiller, slot: TensorSlot, faults: dict[str, list[str]]) -> TensorPlan | None:
        base = slot.planned_slice.base if fill.method.base_model != "ignored" else None
        pairs = [(ref, name) for ref, name in slot.inputs.items() if ref != base]
        shape = self._shape(slot)
        instance = self._filled(fill, slot, pairs, shape, faults)
        if instance is None or shape is None:
            return None
        root = None if base is None or base not in slot.inputs else Ingredient(base, slot.inputs[base])
        dtype = self._dtype(slot, instance, base)
        parents = tuple(Ingredient(*pair) for pair in pairs)
        return TensorPlan(slot.output, shape, dtype, instance, parents, root, vocabulary=slot.vocabulary)

    def _shape(self, slot: TensorSlot) -> tuple[int, ...] | None:
        shapes = {reference: self.opened(reference).shape(name) for reference, name in slot.inputs.items()}
        if slot.vocabulary and self.vocabulary is not None:
            shapes = {reference: (self.vocabulary, *shape[1:]) for reference, shape in shapes.items()}
        kinds = set(shapes.values())
        if len(kinds) == 1:
            return kinds.pop()
        cut = slot.vocabulary and (self.compat or self.allow_crimes) and len({len(kind) for kind in kinds}) == 1
        common = tuple(min(sides) for sides in zip(*kinds, strict=True)) if cut else None
        if self.compat and not self.allow_crimes and not self._cuts(shapes.get(str(slot.planned_slice.base)), common):
            common = None
        if common is None:
            self._differences.shapes(slot.output, shapes, vocabulary=slot.vocabulary)
        return common

    def _cuts(self, base: tuple[int, ...] | None, common: tuple[int, ...] | None) -> bool:
        """Return whether the reference's method would take the rows that all models have."""
        how = get_method(self.recipe.merge_method).cut
        return how == "common" or (how == "base" and base == common)

    def _dtype(self, slot: TensorSlot, method: AbstractMethod, base: str | None) -> torch.dtype:
        stated = self.recipe.out_dtype or self.recipe.dtype
        donor = base if base in slot.inputs else next(iter(slot.inputs))
        assert donor is not None
        stored = self._stored_dtype(slot, method, donor)
        if not stored.is_floating_point and (stated is None or not self.compat):
            return stored
        own = stored if stated is None else torch_dtype(stated)
        return own if self.recipe.out_dtype else method.result_dtype(own, compat=self.compat)

    def _stored_dtype(self, slot: TensorSlot, method: AbstractMethod, donor: str) -> torch.dtype:
        """Return the donor's dtype; in the reference's mode, of some methods, the widest of all parents'."""
        found = [self.opened(reference).dtype(name) for reference, name in slot.inputs.items()]
        if self.compat and method.widest:
            return reduce(torch.promote_types, found)
        return self.opened(donor).dtype(slot.inputs[donor])

    def _config(self, donor: str, parts: Sequence[ModulePart], tensors: Sequence[TensorPlan]) -> dict[str, Any]:
        config = dict(self.opened(donor).config)
        for part in parts:
            config = self._sliced(config, part, donor)
        dtypes = [tensor.dtype for tensor in tensors]
        stated = self.recipe.out_dtype or self.recipe.dtype
        if self.compat:
            name = stated.removeprefix("torch.") if stated else config.get("dtype", config.get("torch_dtype"))
        else:
            name = str(max(set(dtypes), key=lambda dtype: (dtypes.count(dtype), str(dtype)))).removeprefix("torch.")
        key = "torch_dtype" if "torch_dtype" in config and "dtype" not in config else "dtype"
        config[key] = name
        if self.vocabulary is not None:
            config["vocab_size"] = self.vocabulary
        return config

    def _sliced(self, config: dict[str, Any], part: ModulePart, donor: str) -> dict[str, Any]:
        """Return a config for the layers that a part takes of the donor, or of the first source where it has none."""
        taken = [layer for piece in part.slices for layer in range(*self._donor_range(piece, donor))]
        count = part.stack(donor).count
        unseen = len(taken) == count or is_inferred(config)
        if taken == list(range(count)) or (self.compat and unseen):
            return config
        key = section(config, part.role)
        stated = config if key is None else config[key]
        if layer_count(stated) != count and len(taken) != count:
            known = ", ".join(COUNT_KEYS)
            raise RecipeError(
                f"{self.recipe.place}: slices: config.json of {donor} must state its {count} layers as one of {known}; "
                "without that no other number of layers can be written"
            )
        sliced = with_layers(stated, taken)
        return sliced if key is None else {**config, key: sliced}

    @staticmethod
    def _donor_range(piece: PlannedSlice, donor: str) -> tuple[int, int]:
        ranges = dict(piece.sources)
        return ranges.get(donor, piece.sources[0][1])


def _told(fault: str, tensors: Sequence[str]) -> str:
    """Return one line for a fault, whatever the number of tensors that have it."""
    more = f" and {len(tensors) - 1} more" if len(tensors) > 1 else ""
    return f"{tensors[0]}{more}: {fault}" if tensors else fault


def outer_name(checkpoint: Checkpoint, name: str) -> str:
    """Return the name of a tensor in a model: a tied one gives its embedding where others have a head."""
    if name in checkpoint or not (is_head(name) and name.endswith(".weight")):
        return name
    return next((other for other in checkpoint.names if is_embedding(other)), name)


def torch_dtype(name: str) -> torch.dtype:
    """Return a dtype by its name in a recipe."""
    dtype = getattr(torch, name.removeprefix("torch."))
    assert isinstance(dtype, torch.dtype)
    return dtype
