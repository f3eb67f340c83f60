"""Matrix products through oneDNN where torch's own are slow: MKL takes its fast paths on Intel's processors only.

With AVX-512 on an EPYC, 135M parameters and one thread, oneDNN ran 64 to 1,024 float32 rows at 83 to 98 GFLOP/s, MKL
at 76 to 87; 4 to 16 rows took it 70 to 100 % of MKL's time. Which one runs is decided by the processor's maker and
never by a stopwatch, so that a machine always rounds the same way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LEAST_ROWS = 4
"""With fewer rows a product is as slow as reading its weights, in either library."""


@cache
def prefers_onednn() -> bool:
    """Tell whether this processor is another maker's than Intel's and torch has both libraries."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    makers = {line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")}
    return bool(makers) and "GenuineIntel" not in makers and has_onednn() and _built_with_mkl()


def has_onednn() -> bool:
    """Tell whether torch was built with oneDNN and offers its product."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch has no types here
    return built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _built_with_mkl() -> bool:
    built: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]  # torch has no types here
    return built


@contextmanager
def fast_products(model: torch.nn.Module) -> Iterator[None]:
    """Put oneDNN's product in the place of a model's linear layers inside, where it is the faster library.

    The layers come back afterwards. Inside, hooks on them are not called.
    """
    parents = list(model.modules()) if prefers_onednn() else []
    layers = [
        (parent, name, child)
        for parent in parents
        for name, child in parent.named_children()
        if type(child) is torch.nn.Linear and _fits(child)
    ]
    for parent, name, layer in layers:
        setattr(parent, name, OneDnnLinear(layer))
    try:
        yield
    finally:
        for parent, name, layer in layers:
            setattr(parent, name, layer)


def _fits(layer: torch.nn.Linear) -> bool:
    """Tell whether a layer is in float32 on a CPU and has no forward of its own, as dispatching libraries give it."""
    weight = layer.weight
    return "forward" not in vars(layer) and weight.device.type == "cpu" and weight.dtype == torch.float32


class OneDnnLinear(torch.nn.Module):
    """A linear layer whose product oneDNN computes: ``x @ weight.T + bias``.

    Args:
        layer: The linear layer; its parameters are shared.
    """

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``[..., out]``, float32, of inputs ``[..., in]``; few rows go to torch's own product."""
        if inputs.numel() < LEAST_ROWS * self.in_features or inputs.dtype != torch.float32:
            return torch.nn.functional.linear(inputs, self.weight, self.bias)
        product: Any = torch.ops.mkldnn._linear_pointwise
        out: Tensor = product(inputs, self.weight, self.bias, "none", [], "")
        return out
