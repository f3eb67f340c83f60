"""The gradient of an objective by the numbers of a recipe, from its gradient by the tensors of the merged model.

    d objective / d value = sum over tensors T of <G_T, dW_T / d value>

A backward pass hands over G_T tensor by tensor and may then let it go. What a tensor adds is found by its method's own
kernels (``execution/derivatives.py``) for each number that its method has, and goes to the recipe's values by the
shares that levels, filters and lists over depth give them (``planning/recipe_values.py``).
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from merge.errors import CompatibilityError, RecipeError
from merge.execution.derivatives import slopes
from merge.execution.live_state import destinations
from merge.execution.projection import AbstractProjection, KnownProducts, NeedsGradientError, Projection
from merge.memory.large_pages import ReusedBuffer
from merge.merger import Merger
from merge.planning.plan import TensorPlan
from merge.planning.recipe_values import Chain, RecipeValue, chains, recipe_values
from merge.recipe.schema import Recipe

GradientSink = Callable[[Tensor], None]
"""Takes the gradient of one parameter of a live model; keeps nothing of it."""


class ValueGradients:
    """Collects the gradient of an objective by a recipe's values.

    The objective is that of the model which `Merger.merge_live` writes with this recipe and seed. Contributions add
    up: over tensors, and over backward passes where the objective is their sum. Not for several threads at once.

    >>> gradients = ValueGradients(merger, recipe, seed=0)  # doctest: +SKIP
    >>> for parameter, sink in gradients.sinks(model):  # doctest: +SKIP
    ...     sink(parameter.grad)
    >>> gradients.by_value()["models[0].parameters.weight"]  # doctest: +SKIP
    0.173

    Args:
        merger: Has the parents.
        recipe: The recipe.
        seed: Of the random masks; the merger's own by default.
        paths: Of the values that are wanted; all of them by default.

    Raises:
        MergeError: As `Merger.check`; or the merger follows the reference, whose random numbers come in a stream; or
            the recipe has no value at one of the paths.
    """

    def __init__(
        self, merger: Merger, recipe: Recipe, *, seed: int | None = None, paths: Collection[str] | None = None
    ) -> None:
        if merger.compat:
            raise RecipeError(f"{recipe.place}: gradients need the default arithmetic, got compat mode; leave it out")
        planner, self._plan = merger.planned(recipe)
        values = recipe_values(recipe)
        wanted = {value.path for value in values} if paths is None else set(paths)
        unknown = sorted(wanted - {value.path for value in values})
        if unknown:
            raise RecipeError(f"{recipe.place}: {unknown[0]}: must be a real number of the recipe, found none there")
        self.values: tuple[RecipeValue, ...] = tuple(value for value in values if value.path in wanted)
        self._sums = dict.fromkeys((value.path for value in self.values), 0.0)
        self._inputs = merger.tensor_inputs(recipe, seed=seed)
        self._buffer = ReusedBuffer()
        made = chains(planner, recipe)
        dependent = ((tensor, _restricted(made[tensor.name], wanted)) for tensor in self._plan.tensors)
        self._tensors: dict[str, tuple[TensorPlan, Chain]] = {t.name: (t, chain) for t, chain in dependent if chain}

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the output tensors that depend on a value; the gradients of others are not needed."""
        return tuple(self._tensors)

    def by_value(self) -> dict[str, float]:
        """Return the sum of all contributions so far, by path."""
        return dict(self._sums)

    def add(self, name: str, gradient: Tensor) -> None:
        """Add what one output tensor contributes.

        Args:
            name: Of the output tensor.
            gradient: Of the objective by it: its shape, any float dtype, any device.

        Raises:
            CompatibilityError: The gradient has another shape.
        """
        if name not in self._tensors:
            return
        tensor, _ = self._tensors[name]
        if tuple(gradient.shape) != tensor.shape:
            raise CompatibilityError(f"{name}: gradient must be {list(tensor.shape)}, got {list(gradient.shape)}")
        inputs = self._inputs(tensor)
        if (inputs.optional_base or inputs.parents[0]).raw.dtype.is_floating_point:  # others are copied, not merged
            self._contract(name, Projection(inputs, gradient, self._buffer))

    def add_products(self, name: str, offsets: Sequence[float], origin: float) -> None:
        """Add what one output tensor contributes, given products of its gradient instead of the gradient.

        Args:
            name: Of the output tensor.
            offsets: Product of the gradient with each parent's offset from the origin, in the order of `parents`.
            origin: Product with the origin: the base, or a tensor that all parents are given as offsets from.

        Raises:
            CompatibilityError: The method needs the gradient itself, see `products_suffice`.
        """
        if name not in self._tensors:
            return
        try:
            self._contract(name, KnownProducts(self._inputs(self._tensors[name][0]), offsets, origin))
        except NeedsGradientError:
            method = self._tensors[name][0].method.method
            raise CompatibilityError(f"{name}: {method} needs the gradient here, got products with parents") from None

    def products_suffice(self, name: str) -> bool:
        """Return whether `add_products` can replace `add`: the method adds whole tensors or task vectors."""
        tensor, chain = self._tensors[name]
        inputs = self._inputs(tensor)
        try:
            slopes(tensor.method, inputs, KnownProducts(inputs, (0.0,) * len(inputs.parents), 0.0), chain)
        except NeedsGradientError:
            return False
        return True

    def parents(self, name: str) -> tuple[tuple[str, str], ...]:
        """Return reference and tensor name of the parents of an output tensor, without the base."""
        return tuple((parent.reference, parent.name) for parent in self._tensors[name][0].parents)

    def sinks(self, model: nn.Module) -> list[tuple[nn.Parameter, GradientSink]]:
        """Return the parameters of a live model that depend on a value, each with what takes its gradient.

        A tied head has no parameter of its own; a fused parameter, of several stored tensors, is divided again.

        Raises:
            CompatibilityError: The model has other tensors than the recipe's result.
        """
        targets = destinations(model, self._plan)
        result: list[tuple[nn.Parameter, GradientSink]] = []
        for parameter in model.parameters():
            start, end = parameter.data_ptr(), parameter.data_ptr() + parameter.nbytes
            views = {n: t for n, t in targets.items() if n in self._tensors and start <= t.data_ptr() < end}
            if views:
                places = [(n, (t.data_ptr() - start) // t.element_size(), t.shape) for n, t in views.items()]
                result.append((parameter, self._sink(places)))
        return result

    def _sink(self, places: Sequence[tuple[str, int, torch.Size]]) -> GradientSink:
        def sink(gradient: Tensor) -> None:
            flat = gradient.detach().reshape(-1)
            for name, start, shape in places:
                self.add(name, flat[start : start + shape.numel()].view(shape))

        return sink

    def _contract(self, name: str, projection: AbstractProjection) -> None:
        tensor, chain = self._tensors[name]
        found: Any = slopes(tensor.method, self._inputs(tensor), projection, chain)
        for argument, shares in chain.items():
            for path, share in shares:
                self._sums[path] += share * found[argument]


def _restricted(chain: Chain, paths: Collection[str]) -> Chain:
    """Return what of a chain leads to some of the values."""
    kept = ((argument, tuple(s for s in shares if s[0] in paths)) for argument, shares in chain.items())
    return {argument: shares for argument, shares in kept if shares}
