"""A live model's tensors under the names of its checkpoint, where transformers stores them apart.

transformers 5 fuses, say, the experts of a layer into one parameter when it loads a checkpoint, and takes them apart
when it saves one. Here its own rule for saving is applied to row numbers instead of weights; what comes out says of
which rows of which parameter each stored tensor is made, and those rows, when they lie together, are a view that can
be written to.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from merge.errors import CompatibilityError


def stored_views(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return views into a model's tensors by the names that a saved checkpoint has.

    Args:
        model: A model of transformers.
        state: Its tensors by their own names.

    Raises:
        CompatibilityError: A stored tensor is no block of rows of one parameter.
    """
    from transformers.core_model_loading import revert_weight_conversion

    rows, owners, start = {}, [], 0
    for name, tensor in state.items():
        count = tensor.numel() // max(tensor.shape[-1], 1) if tensor.dim() else 1
        numbers = torch.arange(start, start + count, dtype=torch.float64)
        rows[name] = numbers.reshape(*tensor.shape[:-1], 1) if tensor.dim() else numbers.reshape(())
        owners.append((start, start + count, tensor))
        start += count
    saved = revert_weight_conversion(model, rows)
    return {name: _view(name, numbers, owners) for name, numbers in saved.items()}


def _view(name: str, numbers: Tensor, owners: list[tuple[int, int, Tensor]]) -> Tensor:
    flat = numbers.reshape(-1)
    first, count = int(flat[0]) if flat.numel() else 0, flat.numel()
    together = torch.equal(flat, torch.arange(first, first + count, dtype=flat.dtype))
    owner = next((o for o in owners if o[0] <= first and first + count <= o[1]), None)
    if owner is None or not together or (numbers.dim() and numbers.shape[-1] != 1):
        raise CompatibilityError(f"{name}: must be rows of one tensor of the live model; merge to a folder instead")
    start, _, tensor = owner
    if not tensor.dim():
        return tensor
    width = tensor.shape[-1]
    return tensor.view(-1, width)[first - start : first - start + count].view(*numbers.shape[:-1], width)
