"""Recipe and headers to what each output tensor is made of; no weight is read."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import torch

from merge.checkpoint import Checkpoint
from merge.compatibility import Differences
from merge.errors import RecipeError
from merge.layers import Layers, comes_first, find_layers, is_embedding, is_head, is_recomputed, with_layers
from merge.method import AbstractMethod
from merge.methods import get_method
from merge.parameters import Scope, Settings
from merge.pieces import Filling, Piece, Place
from merge.planned import Ingredient, Plan, TensorPlan
from merge.recipe import ListedModel, Module, Recipe, Slice, Source

Open = Callable[[str], Checkpoint]


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
    _layers: dict[str, Layers] = field(default_factory=dict)
    _made: list[tuple[Place, TensorPlan]] = field(default_factory=list)
    _plan: Plan | None = None

    def plan(self) -> Plan:
        """Return the plan.

        Raises:
            RecipeError: Layers or parameters are missing, or do not hold for a tensor.
            CompatibilityError: The parents do not fit each other.
        """
        recipe = self.recipe
        method = get_method(recipe.merge_method)
        pieces = self._pieces(method)
        self._differences = Differences(recipe.place)
        models = [self.opened(reference) for reference in dict.fromkeys(r for p in pieces for r, _ in p.sources)]
        if not self.allow_crimes:
            self._differences.architectures(models)
        places = [*self._layer_places(pieces), *self._outer_places(pieces)]
        self._made, faults, fill = [], dict[str, list[str]](), Filling(method, pieces)
        for place in sorted(places, key=self._order):
            made = self._tensor(fill, place, faults)
            self._made += [(place, made)] if made is not None else []
        self._differences.raise_if_any()
        self._raise_if(faults)
        donor = recipe.base_model or pieces[0].sources[0][0]
        tensors = [made for _, made in self._made]
        self._plan = Plan(tuple(tensors), self._config(donor, pieces, tensors), donor)
        return self._plan

    def replan(self, recipe: Recipe) -> Plan:
        """Return the plan of a recipe that differs from the planned one in values of parameters alone.

        Raises:
            RecipeError: Parameters are missing, or do not hold for a tensor.
        """
        assert self._plan is not None
        self.recipe = recipe
        method = get_method(recipe.merge_method)
        fill, faults, tensors = Filling(method, self._pieces(method)), dict[str, list[str]](), []
        for place, made in self._made:
            pairs = [(parent.reference, parent.name) for parent in made.parents]
            instance = self._filled(fill, place, pairs, made.shape, faults)
            if instance is not None:
                tensors.append(replace(made, method=instance))
        self._raise_if(faults)
        return replace(self._plan, tensors=tuple(tensors))

    def _raise_if(self, faults: dict[str, list[str]]) -> None:
        if faults:
            raise RecipeError("\n".join(f"{self.recipe.place}: {_told(*fault)}" for fault in faults.items()))

    def _order(self, place: Place) -> str:
        return max(place.inputs.values()) if self.compat else place.output

    def _pieces(self, method: type[AbstractMethod]) -> list[Piece]:
        recipe = self.recipe
        part: Recipe | Module = recipe
        shared: list[Settings] = [recipe.parameters or {}]
        if recipe.modules is not None:
            if len(recipe.modules) != 1:
                raise RecipeError(f"{recipe.place}: modules: must be one module, got {', '.join(recipe.modules)}")
            part = next(iter(recipe.modules.values()))
            shared.insert(0, part.parameters or {})
        if part.models is not None:
            return [self._all_layers(method, part.models, shared)]
        pieces = [self._piece(number, piece, shared) for number, piece in enumerate(part.slices or ())]
        self._check_ranges(part.slices or ())
        return pieces

    def _all_layers(self, method: type[AbstractMethod], models: Sequence[ListedModel], shared: list[Settings]) -> Piece:
        names = list(dict.fromkeys(entry.model for entry in models))
        base = self.recipe.base_model
        if base is not None and base not in names and (method.base_model != "ignored" or self.compat):
            names.append(base)
        counts = {name: self._stack(name).count for name in names}
        differences = Differences(self.recipe.place)
        differences.layer_counts(counts)
        if not self.allow_crimes and len(set(counts.values())) > 1:
            differences.architectures([self.opened(name) for name in names])
        differences.raise_if_any()
        own = tuple((entry.model, entry.parameters or {}) for entry in models)
        sources = tuple((name, (0, count)) for name, count in counts.items())
        return Piece(0, sources, base, Scope(own, tuple(shared)))

    def _piece(self, number: int, piece: Slice, shared: list[Settings]) -> Piece:
        own = tuple((source.model, source.parameters or {}) for source in piece.sources)
        last = {source.model: source.layer_range for source in piece.sources}
        scope = Scope(own, (piece.parameters or {}, *shared))
        return Piece(number, tuple(last.items()), piece.base_model or self.recipe.base_model, scope)

    def _check_ranges(self, slices: Sequence[Slice]) -> None:
        faults = []
        for number, piece in enumerate(slices):
            for index, source in enumerate(piece.sources):
                fault = self._range_fault(source)
                faults += [f"slices[{number}].sources[{index}].layer_range: {fault}"] if fault else []
        if faults:
            join = "." if ": " in self.recipe.place else ": "
            raise RecipeError("\n".join(f"{self.recipe.place}{join}{fault}" for fault in faults))

    def _range_fault(self, source: Source) -> str | None:
        count = self._stack(source.model).count
        if source.layer_range[1] <= count:
            return None
        return f"must end at {count} at most, the layers of {source.model}, got {list(source.layer_range)}"

    def _stack(self, reference: str) -> Layers:
        if reference not in self._layers:
            checkpoint = self.opened(reference)
            self._layers[reference] = find_layers(checkpoint.names, checkpoint.config, reference)
        return self._layers[reference]

    def _layer_places(self, pieces: Sequence[Piece]) -> Iterator[Place]:
        start = 0
        for piece in pieces:
            components: dict[str, dict[int, list[str]]] = {}
            for reference, _ in piece.sources:
                components[reference] = self._components(reference)
            for offset in range(piece.length):
                depth = offset / (piece.length - 1) if piece.length > 1 else 1.0
                at = {reference: first + offset for reference, (first, _) in piece.sources}
                names = dict.fromkeys(c for ref, layer in at.items() for c in components[ref].get(layer, ()))
                for component in names:
                    inputs = {ref: self._stack(ref).name(layer, component) for ref, layer in at.items()}
                    output = self._stack(piece.sources[0][0]).name(start + offset, component)
                    if self._all_have(inputs):
                        yield Place(output, piece, depth, inputs)
            start += piece.length

    def _components(self, reference: str) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for name in self.opened(reference).names:
            split = self._stack(reference).split(name)
            if split is not None and not is_recomputed(name):
                found.setdefault(split[0], []).append(split[1])
        return found

    def _outer_places(self, pieces: Sequence[Piece]) -> Iterator[Place]:
        """Return the tensors outside the layers: embeddings follow the first slice, norm and head the last."""
        seen: dict[str, None] = {}
        for piece in (pieces[0], pieces[-1]):
            for reference, _ in piece.sources:
                outside = (n for n in self.opened(reference).names if self._stack(reference).split(n) is None)
                seen.update(dict.fromkeys(name for name in outside if not is_recomputed(name)))
        for name in seen:
            piece = pieces[0] if comes_first(name) else pieces[-1]
            sources = piece.sources[: len(pieces[0].sources)] if self.compat else piece.sources
            inputs = {reference: outer_name(self.opened(reference), name) for reference, _ in sources}
            if not any(name in self.opened(reference) for reference in inputs):
                continue
            if self._all_have(inputs):
                yield Place(name, piece, 0.0, inputs, vocabulary=is_embedding(name) or is_head(name))

    def _all_have(self, inputs: Mapping[str, str]) -> bool:
        lacking = [(reference, name) for reference, name in inputs.items() if name not in self.opened(reference)]
        for reference, name in lacking:
            self._differences.missing(name, reference)
        return not lacking

    def _filled(
        self,
        fill: Filling,
        place: Place,
        pairs: Sequence[tuple[str, str]],
        shape: tuple[int, ...] | None,
        faults: dict[str, list[str]],
    ) -> AbstractMethod | None:
        """Return the method with the parameters of one tensor; what is wrong with them is added to the faults."""
        instance, missing = fill(place, pairs)
        for lack in missing:
            faults.setdefault(lack, [])
        if instance is not None and shape is not None:
            fault = instance.fault(math.prod(shape), compat=self.compat)
            if fault is not None:
                faults.setdefault(fault, []).append(place.output)
        return instance

    def _tensor(self, fill: Filling, place: Place, faults: dict[str, list[str]]) -> TensorPlan | None:
        base = place.piece.base if fill.method.base_model != "ignored" else None
        pairs = [(ref, name) for ref, name in place.inputs.items() if ref != base]
        shape = self._shape(place)
        instance = self._filled(fill, place, pairs, shape, faults)
        if instance is None or shape is None:
            return None
        root = None if base is None or base not in place.inputs else Ingredient(base, place.inputs[base])
        dtype = self._dtype(place, instance, base)
        parents = tuple(Ingredient(*pair) for pair in pairs)
        return TensorPlan(place.output, shape, dtype, instance, parents, root, vocabulary=place.vocabulary)

    def _shape(self, place: Place) -> tuple[int, ...] | None:
        shapes = {reference: self.opened(reference).shape(name) for reference, name in place.inputs.items()}
        if place.vocabulary and self.vocabulary is not None:
            shapes = {reference: (self.vocabulary, *shape[1:]) for reference, shape in shapes.items()}
        kinds = set(shapes.values())
        if len(kinds) == 1:
            return kinds.pop()
        cut = place.vocabulary and (self.compat or self.allow_crimes) and len({len(kind) for kind in kinds}) == 1
        common = tuple(min(sides) for sides in zip(*kinds, strict=True)) if cut else None
        if common is None:
            self._differences.shapes(place.output, shapes, vocabulary=place.vocabulary)
        return common

    def _dtype(self, place: Place, method: AbstractMethod, base: str | None) -> torch.dtype:
        stated = self.recipe.out_dtype or self.recipe.dtype
        donor = base if base in place.inputs else next(iter(place.inputs))
        assert donor is not None
        own = self._stored_dtype(place, method, donor) if stated is None else torch_dtype(stated)
        return own if self.recipe.out_dtype else method.result_dtype(own, compat=self.compat)

    def _stored_dtype(self, place: Place, method: AbstractMethod, donor: str) -> torch.dtype:
        """Return the donor's dtype; in the reference's mode, of some methods, the widest of all parents'."""
        found = [self.opened(reference).dtype(name) for reference, name in place.inputs.items()]
        if self.compat and method.widest:
            return reduce(torch.promote_types, found)
        return self.opened(donor).dtype(place.inputs[donor])

    def _config(self, donor: str, pieces: Sequence[Piece], tensors: Sequence[TensorPlan]) -> dict[str, Any]:
        source = self.opened(donor).config
        taken = [layer for piece in pieces for layer in range(*self._donor_range(piece, donor))]
        config = with_layers(source, taken)
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

    @staticmethod
    def _donor_range(piece: Piece, donor: str) -> tuple[int, int]:
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
