"""What the tensors of a live model hold, so that a merge writes only those that change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from merge.architecture.layers import is_head
from merge.architecture.stored_names import stored_views
from merge.errors import CompatibilityError
from merge.planning.plan import Plan


@dataclass(frozen=True)
class MergeStats:
    """What a merge into a live model took.

    Args:
        seconds: Wall clock.
        tensors_written: Tensors that were merged.
        tensors_skipped: Tensors that already held their values.
        bytes_read: Size of the parents' tensors that took part.
        bytes_written: Size of the model's tensors that were written.
    """

    seconds: float
    tensors_written: int
    tensors_skipped: int
    bytes_read: int
    bytes_written: int


SAMPLED = 64
"""Entries of a tensor by which a change from outside is noticed."""


@dataclass(frozen=True)
class _Written:
    """What a tensor was left with.

    Args:
        signature: Plan and seed that gave it.
        address: Of its first entry.
        sample: Some of its entries, evenly spaced.
    """

    signature: object
    address: int
    sample: Tensor


class LiveState:
    """What a merger last wrote into the tensors of one model."""

    def __init__(self) -> None:
        self._written: dict[str, _Written] = {}
        self._targets: tuple[tuple[tuple[str, tuple[int, ...]], ...], dict[str, Tensor]] = ((), {})
        self._addresses: list[tuple[Tensor, int]] = []

    def destinations(self, model: nn.Module, plan: Plan) -> dict[str, Tensor]:
        """Return `destinations`, remembered as long as neither the plan's tensors nor the model's storage change."""
        wanted = tuple((tensor.name, tensor.shape) for tensor in plan.tensors)
        moved = any(parameter.data_ptr() != address for parameter, address in self._addresses)
        if moved or wanted != self._targets[0]:
            self._targets = (wanted, destinations(model, plan))
            self._addresses = [(parameter, parameter.data_ptr()) for parameter in model.parameters()]
        return self._targets[1]

    def holds(self, name: str, signature: object, target: Tensor) -> bool:
        """Return whether the tensor still is what this signature gave, going by a sample of its entries.

        Whoever changes less of a tensor than a sample shows calls `forget`.
        """
        last = self._written.get(name)
        return (
            last is not None
            and last.signature == signature
            and last.address == target.data_ptr()
            and torch.equal(last.sample, _sample(target))
        )

    def forget(self, name: str) -> None:
        """Note that the tensor is about to change."""
        self._written.pop(name, None)

    def wrote(self, name: str, signature: object, target: Tensor) -> None:
        """Note what the tensor holds now."""
        self._written[name] = _Written(signature, target.data_ptr(), _sample(target).clone())


def _sample(target: Tensor) -> Tensor:
    return target.view(-1)[:: max(1, target.numel() // SAMPLED)]


def destinations(model: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """Return the model's tensor for each of the plan's; a head that the model ties to its embedding is left out.

    Raises:
        CompatibilityError: Names or shapes differ; every difference is listed.
    """
    state: dict[str, Tensor] = {name: tensor.detach() for name, tensor in model.state_dict(keep_vars=True).items()}
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    if prefix != "." and any(tensor.name not in state for tensor in plan.tensors):
        state = stored_views(model, state)
    found: dict[str, Tensor] = {}
    faults = []
    for tensor in plan.tensors:
        names = (tensor.name, prefix + tensor.name, tensor.name.removeprefix(prefix))
        name = next((name for name in names if name in state), None)
        if name is None:
            faults.append(f"{tensor.name}: the live model has no such tensor")
        elif tuple(state[name].shape) != tensor.shape:
            faults.append(
                f"{tensor.name}: must be {list(tensor.shape)} in the live model, got {list(state[name].shape)}"
            )
        elif not state[name].is_contiguous():
            faults.append(f"{tensor.name}: must be contiguous in the live model")
        else:
            found[tensor.name] = state[name]
    places = {tensor.data_ptr() for name, tensor in found.items() if not is_head(name)}
    written = {tensor.data_ptr() for tensor in found.values()}
    faults += [f"{name}: the recipe gives no such tensor" for name, t in state.items() if t.data_ptr() not in written]
    if faults:
        more = f"\n{plan.donor}: and {len(faults) - 20} more" if len(faults) > 20 else ""
        told = "\n".join(f"{plan.donor}: {fault}" for fault in faults[:20])
        raise CompatibilityError(told + more + "; make the model with new_live_model")
    return {name: tensor for name, tensor in found.items() if not (is_head(name) and tensor.data_ptr() in places)}
