"""What a backward pass hands over of the gradients of weights: each whole, once, or its products with low-rank factors.

For a linear layer Y = X W^T with dY = d objective / dY, the gradient by the weight is G = dY^T X, and

    <G, B A> = sum over tokens and ranks of (dY B) * (X A^T)

so that adapters need neither G nor B A.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evals.errors import ScoringError

Sink = Callable[[Tensor], None]
"""Takes a gradient and keeps nothing of it."""


@dataclass(frozen=True)
class LowRank:
    """Products of the gradient of one linear layer's weight that are wanted.

    Attributes:
        module: The layer, under its name in the model.
        factors: ``A [r, in]`` and ``B [out, r]`` of each product with ``B A``; any rank.
        sink: Takes the products, one per pair of factors, float64 on the CPU; once per backward pass.
    """

    module: str
    factors: tuple[tuple[Tensor, Tensor], ...]
    sink: Sink


@contextmanager
def gradients_to(model: nn.Module, sinks: Sequence[tuple[nn.Parameter, Sink]]) -> Iterator[None]:
    """Inside, hand over the gradient of each of these parameters as soon as it is whole, and compute no other.

    Raises:
        ScoringError: A parameter was made in inference mode.
    """
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    if any(parameter.is_inference() for parameter, _ in sinks):
        raise ScoringError("backward: weights must be made outside of torch's inference mode; load the model again")
    hooks: list[Any] = []
    try:
        for parameter, _ in before:
            parameter.requires_grad_(False)
        for parameter, sink in sinks:
            parameter.requires_grad_(True)
            hook: Any = parameter.register_post_accumulate_grad_hook(_handing_over(sink))  # type: ignore[no-untyped-call]  # torch has no types here
            hooks.append(hook)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, required in before:
            parameter.grad = None
            parameter.requires_grad_(required)


def _handing_over(sink: Sink) -> Callable[[Tensor], None]:
    def hand_over(parameter: Tensor) -> None:
        gradient, parameter.grad = parameter.grad, None
        if gradient is not None:
            sink(gradient)

    return hand_over


@contextmanager
def products_to(model: nn.Module, wanted: Sequence[LowRank]) -> Iterator[None]:
    """Inside, hand over the products of each of these layers in every backward pass.

    Raises:
        ScoringError: There is no linear layer of that name, or factors do not fit it.
    """
    hooks: list[Any] = []
    try:
        for one in wanted:
            layer = model.get_submodule(one.module)
            hooks.append(layer.register_forward_hook(_observing(one, *_stacked(one, layer))))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _stacked(wanted: LowRank, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return all factors of a layer as two matrices, in its dtype: ``[r1 + r2 + ..., in]`` and ``[out, r1 + ...]``."""
    if not isinstance(layer, nn.Linear):
        raise ScoringError(f"backward: {wanted.module}: must be a linear layer, got {type(layer).__name__}")
    weight = layer.weight
    for down, up in wanted.factors:
        if down.shape[1] != weight.shape[1] or up.shape[0] != weight.shape[0] or down.shape[0] != up.shape[1]:
            shapes = f"{list(down.shape)} and {list(up.shape)}"
            raise ScoringError(f"backward: {wanted.module}: factors must fit {list(weight.shape)}, got {shapes}")
    downs, ups = (list(side) for side in zip(*wanted.factors, strict=True))
    return torch.cat(downs).to(weight), torch.cat(ups, 1).to(weight)


def _observing(wanted: LowRank, downs: Tensor, ups: Tensor) -> Callable[..., Tensor]:
    ranks = [len(down) for down, _ in wanted.factors]

    def take(by_rank: Tensor) -> None:
        wanted.sink(torch.stack([part.sum() for part in torch.split(by_rank.double().cpu(), ranks)]))

    def observe(_layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return out
        if not out.requires_grad:
            out = out.requires_grad_()
        observed: Tensor = _Observed.apply(out, args[0], downs, ups, take)  # type: ignore[no-untyped-call]  # torch has no types here
        return observed

    return observe


class _Observed(torch.autograd.Function):
    """A layer's output as it is, whose gradient is looked at on its way back."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, inputs: Tensor, downs: Tensor, ups: Tensor, take: Sink) -> Tensor:
        ctx.save_for_backward((inputs @ downs.T).flatten(0, -2), ups)
        ctx.take = take
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inside, ups = ctx.saved_tensors
        inside_grad = grads[0].flatten(0, -2) @ ups
        ctx.take(
            (inside.float() * inside_grad.float() if inside.dtype != torch.float64 else inside * inside_grad).sum(0)
        )
        return grads[0], None, None, None, None
