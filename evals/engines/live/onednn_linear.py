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
    """Tell whether this processor is another maker's than Intel's and torch has oneDNN."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    makers = {line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")}
    return bool(makers) and "GenuineIntel" not in makers and has_onednn() and bool(torch._C.has_mkl)


def has_onednn() -> bool:
    """Tell whether torch was built with oneDNN and gives its products away."""
    return bool(torch._C._has_mkldnn) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@contextmanager
def fast_products(model: torch.nn.Module) -> Iterator[None]:
    """Send the products of a model's linear layers through oneDNN inside, where that is the faster library."""
    layers = [module for module in model.modules() if type(module) is torch.nn.Linear] if prefers_onednn() else []
    changed = [layer for layer in layers if _fits(layer)]
    for layer in changed:
        vars(layer)["forward"] = _Product(layer)
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward


def _fits(layer: torch.nn.Linear) -> bool:
    """Tell whether a layer is in float32 on a CPU and nobody has hooked it already."""
    weight = layer.weight
    return "forward" not in vars(layer) and weight.device.type == "cpu" and weight.dtype == torch.float32


class _Product:
    """``x @ weight.T + bias`` of one layer, its weight read anew at every call.

    Args:
        layer: The linear layer.
    """

    def __init__(self, layer: torch.nn.Linear) -> None:
        self._layer = layer

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return ``[..., out]`` of inputs ``[..., in]``."""
        layer = self._layer
        if inputs.numel() < LEAST_ROWS * layer.in_features or inputs.dtype != torch.float32:
            return torch.nn.functional.linear(inputs, layer.weight, layer.bias)
        product: Any = torch.ops.mkldnn._linear_pointwise
        out: Tensor = product(inputs, layer.weight, layer.bias, "none", [], "")
        return out
