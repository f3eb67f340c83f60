"""The parents of each output tensor: read or mapped once, checked, and found again by the next candidate."""

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from merge.architecture.layers import is_recomputed
from merge.checkpoint.reader import Checkpoint
from merge.checkpoint.tokenizer import Vocabulary
from merge.errors import CheckpointError
from merge.kernels.arithmetic import Arithmetic
from merge.kernels.inputs import Operand, TensorInputs
from merge.kernels.random_draws import AbstractDraws
from merge.memory.cache import ParentCache
from merge.memory.shared_files import SharedFiles
from merge.native import tensors as fused
from merge.planning.plan import Ingredient, TensorPlan
from merge.planning.planner import outer_name
from merge.recipe.schema import Recipe

MAX_CACHED_INPUTS = 20_000
"""Tensors of which is remembered where the parents are."""

_CHECKED = 1 << 18
"""Entries of a parent that are looked at in one go."""


@dataclass(frozen=True)
class MergeContext:
    """What the tensors of one merge share."""

    recipe: Recipe
    cache: ParentCache
    arithmetic: Arithmetic
    draws: AbstractDraws
    vocabulary: Vocabulary | None


class OperandReader:
    """Gives the parents of output tensors.

    Args:
        checkpoint: Opens a model by reference.
        cache: What is kept of parents between merges; a merge with other cache keeps nothing here.
        device: Where the arithmetic runs.
        shared_files: Where processes of a host share computed parents; None where each holds its own.
        compat: Follow the reference, whose groups are not kept.
        allow_nan: Take parents that hold NaN or infinity.
    """

    def __init__(
        self,
        checkpoint: Callable[[str], Checkpoint],
        cache: ParentCache,
        device: torch.device,
        *,
        shared_files: SharedFiles | None,
        compat: bool,
        allow_nan: bool,
    ) -> None:
        self._inputs_by_key: dict[Hashable, TensorInputs] = {}
        self._checkpoint = checkpoint
        self._cache = cache
        self._device = device
        self._shared_files = shared_files
        self._compat = compat
        self._allow_nan = allow_nan

    def inputs(self, tensor: TensorPlan, context: MergeContext) -> TensorInputs:
        """Return the parents of a tensor, checked; the same as last time where they stay in memory or are mapped."""
        vocabulary = None if context.vocabulary is None else id(context.vocabulary)
        key = (tensor.name, tensor.parents, tensor.base, tensor.shape, context.draws.version(), vocabulary)
        if context.cache is self._cache and key in self._inputs_by_key:
            return self._inputs_by_key[key]
        operands = [self._operand(ingredient, tensor, context) for ingredient in tensor.parents]
        base = None if tensor.base is None else self._operand(tensor.base, tensor, context)
        inputs = TensorInputs(
            tensor.name,
            tensor.shape,
            operands,
            base,
            arithmetic=context.arithmetic,
            draws=context.draws,
            cache=context.cache,
        )
        for operand in inputs.operands:
            self._check_parent(operand, context.cache)
        stays = all(not operand.cache_key or context.cache.holds(operand.cache_key) for operand in inputs.operands)
        if context.cache is self._cache and stays and not self._compat:
            if len(self._inputs_by_key) > MAX_CACHED_INPUTS:
                self._inputs_by_key.clear()
            self._inputs_by_key[key] = inputs
            inputs.vectors = {}
        return inputs

    def _operand(self, ingredient: Ingredient, tensor: TensorPlan, context: MergeContext) -> Operand:
        checkpoint = self._checkpoint(ingredient.reference)
        identity = checkpoint.identity(ingredient.name)
        vocabulary = context.vocabulary if tensor.vocabulary else None

        def load() -> Tensor:
            if vocabulary is not None:
                return self._rows(vocabulary, ingredient.reference, tensor, context)
            stored = checkpoint.tensor(ingredient.name).to(self._device)
            if tuple(stored.shape) != tensor.shape:
                stored = stored[tuple(slice(side) for side in tensor.shape)].contiguous()
            return stored

        if vocabulary is not None:
            identity = (f"{ingredient.reference}|{id(vocabulary)}", tensor.name)
        copied = vocabulary is not None or checkpoint.is_folded(ingredient.name) or self._device.type != "cpu"
        key_of_copy = ("parent", identity, tensor.shape)
        key = (ingredient.reference, ingredient.name)
        if self._shared_files is not None and vocabulary is None and self._device.type == "cpu":
            return Operand(key, self._mapped(checkpoint, key[1], tensor.shape, load), context.arithmetic, identity)
        return Operand(
            key,
            lambda: context.cache.tensor(key_of_copy, load),
            context.arithmetic,
            identity,
            cache_key=key_of_copy if copied else None,
        )

    def _mapped(
        self, checkpoint: Checkpoint, name: str, shape: tuple[int, ...], load: Callable[[], Tensor]
    ) -> Callable[[], Tensor]:
        """Return what maps a parent's tensor: from the parent's file, or from a shared file where it is computed."""
        if self._shared_files is None or not checkpoint.is_folded(name):
            return load
        shared_files, what, dtype = self._shared_files, f"{checkpoint.fingerprint()}|{name}", checkpoint.dtype(name)
        return lambda: shared_files.tensor(what, shape, dtype, load)

    def _rows(self, vocabulary: Vocabulary, reference: str, tensor: TensorPlan, context: MergeContext) -> Tensor:
        """Return a parent's embedding in the result's order; the reference rounds before it averages rows."""
        if not context.arithmetic.stepwise:
            return vocabulary.rows(reference, lambda other: self._stored(other, tensor.name))
        rounded = functools.cache(lambda other: context.arithmetic.operand(self._stored(other, tensor.name)))
        return vocabulary.rows(reference, rounded, _inputs(tensor))

    def _stored(self, reference: str, name: str) -> Tensor:
        checkpoint = self._checkpoint(reference)
        return checkpoint.tensor(outer_name(checkpoint, name)).to(self._device)

    def _check_parent(self, operand: Operand, cache: ParentCache) -> None:
        unseen = not operand.raw.dtype.is_floating_point or is_recomputed(operand.key[1])
        if self._allow_nan or unseen:  # GPT-NeoX masks with -1e9, which is infinite in float16
            return
        if not cache.get(("finite", operand.identity), lambda: _all_finite(operand.flat)):
            reference, name = operand.key
            raise CheckpointError(
                f"{reference}: {name}: must be finite, got NaN or infinity; repair it or use --allow-nan"
            )


def _inputs(tensor: TensorPlan) -> set[str]:
    """Return the models that a tensor is merged from."""
    return {ingredient.reference for ingredient in (*tensor.parents, *([tensor.base] if tensor.base else []))}


def _all_finite(flat: Tensor) -> bool:
    """Return whether all entries are finite; a sum over bfloat16 makes a float32 copy, so of a part at a time."""
    if fused.readable([flat]):
        return fused.all_finite(flat)
    parts = range(0, flat.numel(), _CHECKED)
    return all(is_finite(flat[start : start + _CHECKED]) for start in parts)


def is_finite(block: Tensor) -> bool:
    """Return whether all entries are finite: a sum is, unless one is not or the sum overflows."""
    return bool(block.sum(dtype=torch.float32).isfinite()) or bool(block.isfinite().all())
