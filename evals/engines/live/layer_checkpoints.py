"""Memory of a backward pass: what a layer keeps per token, and layers that keep their inputs only.

A checkpointed layer is run again in the backward pass, which costs one more forward pass. Source: T. Chen et al.,
"Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint


def layers_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return a model's layers by name: those that transformers can checkpoint, the outermost ones."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    named = [(name, module) for name, module in model.named_modules() if isinstance(module, GradientCheckpointingLayer)]
    inner = {id(part) for _, module in named for part in module.modules() if part is not module}
    return [(name, module) for name, module in named if id(module) not in inner]


@contextmanager
def checkpointed(model: nn.Module, again: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Inside, let the layers of a model keep their inputs only; the layers come back afterwards.

    Args:
        model: Has the layers.
        again: Called in the forward pass; makes the context in which a layer is run for the second time.
    """
    layers = layers_of(model)
    for name, layer in layers:
        model.set_submodule(name, _Checkpointed(layer, again))
    try:
        yield
    finally:
        for name, layer in layers:
            model.set_submodule(name, layer)


class _Checkpointed(nn.Module):
    """A layer that keeps its inputs only, and has the attributes of the layer otherwise."""

    def __init__(self, layer: nn.Module, again: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()
        self.layer = layer
        self.again = again

    def forward(self, *args: Any, **options: Any) -> Any:
        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), self.again()

        return checkpoint(
            self.layer, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts, **options
        )

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


@contextmanager
def saved_bytes(model: nn.Module, counted: list[int]) -> Iterator[None]:
    """Inside, count the bytes that forward passes keep for their backward pass, weights apart, into a list."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}

    def count(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return saved

    with saved_tensors_hooks(count, lambda saved: saved):
        yield
    counted.append(sum(sizes.values()))


def hidden_bytes(model: Any) -> int:
    """Return the bytes per token that checkpointed layers keep: their inputs."""
    config = getattr(model.config, "text_config", None) or model.config
    width = int(getattr(config, "hidden_size", 1024))
    size: int = torch.finfo(model.dtype).bits // 8
    return len(layers_of(model)) * width * size
