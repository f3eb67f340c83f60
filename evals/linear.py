"""Matrix products through oneDNN where torch's own are slow: MKL takes its fast paths on Intel's processors only.

With AVX-512 on an EPYC, 135M parameters and one thread, oneDNN ran 64 to 1,024 float32 rows at 83 to 98 GFLOP/s, MKL
at 76 to 87. Which one runs is decided by the processor's maker and never by a stopwatch, so that a machine always
rounds the same way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LEAST_ROWS = 16
"""With fewer rows a product is as slow as reading its weights, in either library."""


@cache
def prefers_onednn() -> bool:
    """Tell whether this processor is another maker's than Intel's and torch has oneDNN."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    makers = {line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")}
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return bool(makers) and "GenuineIntel" not in makers and known and torch.backends.mkl.is_available()


@contextmanager
def fast_products(model: torch.nn.Module) -> Iterator[None]:
    """Send the products of a model's linear layers through oneDNN inside, where that is the faster library."""
    changed = [module for module in model.modules() if _fits(module)] if prefers_onednn() else []
    for module in changed:
        module.forward = _Product(module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _fits(module: torch.nn.Module) -> bool:
    """Tell whether a module is a plain linear layer in float32 on a CPU that nobody has hooked already."""
    if type(module) is not torch.nn.Linear or "forward" in vars(module):
        return False
    return module.weight.device.type == "cpu" and module.weight.dtype == torch.float32


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
