"""Recipe and headers to what each output tensor is made of; no weight is read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from merge.checkpoint import Checkpoint
from merge.compatibility import Differences
from merge.errors import RecipeError
from merge.layers import Layers, comes_first, find_layers, is_embedding, is_head, is_recomputed, with_layers
from merge.method import AbstractMethod
from merge.methods import get_method
from merge.parameters import Scope, Settings, filled
from merge.planned import Ingredient, Plan, TensorPlan
from merge.recipe import ListedModel, Module, Recipe, Slice, Source

Open = Callable[[str], Checkpoint]


@dataclass(frozen=True)
class _Place:
    """One tensor before its parameters are known: which slice, where in it, and its name in each source."""

    output: str
    piece: "_Piece"
    depth: float
    inputs: dict[str, str]
    vocabulary: bool = False


@dataclass(frozen=True)
class _Piece:
    """A slice: sources with layer ranges, the base's reference, parameters."""

    sources: tuple[tuple[str, tuple[int, int]], ...]
    base: str | None
    scope: Scope

    @property
    def length(self) -> int:
        first, last = self.sources[0][1]
        return last - first


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
        tensors, faults = list[TensorPlan](), dict[str, None]()
        for place in sorted(places, key=self._order):
            made = self._tensor(method, place, faults)
            tensors += [made] if made is not None else []
        self._differences.raise_if_any()
        if faults:
            raise RecipeError("\n".join(f"{recipe.place}: {fault}" for fault in faults))
        donor = recipe.base_model or pieces[0].sources[0][0]
        return Plan(tuple(tensors), self._config(donor, pieces, tensors), donor)

    def _order(self, place: _Place) -> tuple[str, str]:
        return (max(place.inputs.values()) if self.compat else place.output, place.output)

    def _pieces(self, method: type[AbstractMethod]) -> list[_Piece]:
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
        pieces = [self._piece(piece, shared) for piece in part.slices or ()]
        self._check_ranges(part.slices or ())
        return pieces

    def _all_layers(
        self, method: type[AbstractMethod], models: Sequence[ListedModel], shared: list[Settings]
    ) -> _Piece:
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
        return _Piece(sources, base, Scope(own, tuple(shared)))

    def _piece(self, piece: Slice, shared: list[Settings]) -> _Piece:
        own = tuple((source.model, source.parameters or {}) for source in piece.sources)
        last = {source.model: source.layer_range for source in piece.sources}
        scope = Scope(own, (piece.parameters or {}, *shared))
        return _Piece(tuple(last.items()), piece.base_model or self.recipe.base_model, scope)

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

    def _layer_places(self, pieces: Sequence[_Piece]) -> Iterator[_Place]:
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
                        yield _Place(output, piece, depth, inputs)
            start += piece.length

    def _components(self, reference: str) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for name in self.opened(reference).names:
            split = self._stack(reference).split(name)
            if split is not None and not is_recomputed(name):
                found.setdefault(split[0], []).append(split[1])
        return found

    def _outer_places(self, pieces: Sequence[_Piece]) -> Iterator[_Place]:
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
                yield _Place(name, piece, 0.0, inputs, vocabulary=is_embedding(name) or is_head(name))

    def _all_have(self, inputs: Mapping[str, str]) -> bool:
        lacking = [(reference, name) for reference, name in inputs.items() if name not in self.opened(reference)]
        for reference, name in lacking:
            self._differences.missing(name, reference)
        return not lacking

    def _tensor(self, method: type[AbstractMethod], place: _Place, faults: dict[str, None]) -> TensorPlan | None:
        base = place.piece.base if method.base_model != "ignored" else None
        pairs = [(ref, name) for ref, name in place.inputs.items() if ref != base]
        instance, missing = filled(method, place.piece.scope, pairs, place.output, place.depth)
        faults.update(dict.fromkeys(missing))
        shape = self._shape(place)
        if instance is None or shape is None:
            return None
        size = int(torch.Size(shape).numel())
        fault = instance.fault(size, compat=self.compat)
        if fault is not None:
            faults[f"{place.output}: {fault}"] = None
        root = None if base is None or base not in place.inputs else Ingredient(base, place.inputs[base])
        dtype = self._dtype(place, instance, base)
        parents = tuple(Ingredient(*pair) for pair in pairs)
        return TensorPlan(place.output, shape, dtype, instance, parents, root, vocabulary=place.vocabulary)

    def _shape(self, place: _Place) -> tuple[int, ...] | None:
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

    def _dtype(self, place: _Place, method: AbstractMethod, base: str | None) -> torch.dtype:
        stated = self.recipe.out_dtype or self.recipe.dtype
        donor = base if base in place.inputs else next(iter(place.inputs))
        assert donor is not None
        own = self.opened(donor).dtype(place.inputs[donor]) if stated is None else torch_dtype(stated)
        return own if self.recipe.out_dtype else method.result_dtype(own, compat=self.compat)

    def _config(self, donor: str, pieces: Sequence[_Piece], tensors: Sequence[TensorPlan]) -> dict[str, Any]:
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
    def _donor_range(piece: _Piece, donor: str) -> tuple[int, int]:
        ranges = dict(piece.sources)
        return ranges.get(donor, piece.sources[0][1])


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
