"""Masks and task vectors as the compiled loops read them: records of plain numbers and addresses."""

import math
import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from merge.kernels.masks import (
    BAND,
    KEEPS_ALL,
    RANDOM,
    RANKED,
    THRESHOLD,
    AbstractMask,
    BandMask,
    RandomMask,
    RankedRandomMask,
    ThresholdMask,
)
from merge.kernels.task_vector import TaskVector
from merge.native import tensors as fused

_PLAIN = 4
"""Kind of a record of which nothing is dropped."""
_VECTOR = struct.Struct("=11q5f")
"""One task vector, less its weight; the same record in ``native/src/vectors.h``."""
_WEIGHT = struct.Struct("=f")


def combinable(masks: Sequence[AbstractMask | None]) -> bool:
    """Return whether the loops can combine task vectors with these masks: few, and all of one kind or none."""
    if len(masks) > fused.MAX_TENSORS:
        return False
    kinds = {mask.native_kind for mask in masks if mask is not None}
    mixed = kinds == {RANKED} and None in masks
    return None not in kinds and not mixed and (len(kinds) <= 1 or kinds == {THRESHOLD, BAND})


def combination(
    out: Tensor,
    dtype: torch.dtype,
    vectors: Sequence[TaskVector],
    weights: Sequence[float],
    *,
    vote: bool,
    normalize: bool,
    scale: float,
) -> fused.OnePass:
    """Return what writes base + scale times the combined task vectors, rounded to `dtype`.

    Args:
        out: Where the result goes.
        dtype: What it is rounded to first.
        vectors: Task vectors whose masks are `combinable`.
        weights: Factor of each.
        vote: Whether entries that disagree with the sign of the sum are left out.
        normalize: With a vote, whether the sum is divided by the weights that agree.
        scale: Factor of the sum.
    """
    base, how = vectors[0].inputs.base.address, _how(vote=vote, normalize=normalize)
    return fused.combination(out, dtype, base, len(vectors), _records(vectors, weights), how=how, scale=scale)


def mixture(
    vectors: Sequence[TaskVector], weights: Sequence[float], *, vote: bool, normalize: bool, scale: float
) -> tuple[int, bytes, int, float]:
    """Return what `projections` takes of combined task vectors; as for `combination`."""
    return len(vectors), _records(vectors, weights), _how(vote=vote, normalize=normalize), scale


def _how(*, vote: bool, normalize: bool) -> int:
    return fused.ADDED if not vote else fused.SHARED if normalize else fused.ELECTED


def masked_norm(vector: TaskVector, mask: AbstractMask | None) -> float:
    """Return the L1 norm of what a mask keeps of a task vector; of all of it for None."""
    kind = _PLAIN if mask is None else mask.native_kind
    assert kind is not None
    return fused.masked_norm(vector.inputs.base.raw, _record(vector, mask, kind, None) + _WEIGHT.pack(1.0))


def _records(vectors: Sequence[TaskVector], weights: Sequence[float]) -> bytes:
    """Return the records of task vectors; one that drops nothing has the kind of the others."""
    kind = max([vector.native_kind for vector in vectors])  # type: ignore[type-var]  # None is not combinable
    assert kind is not None
    kind = _PLAIN if kind == KEEPS_ALL else kind
    drawn = None if kind != RANDOM else next(v.mask for v in vectors if isinstance(v.mask, RandomMask))
    records: list[bytes] = []
    for vector, weight in zip(vectors, weights, strict=True):
        record = vector.records.get(kind)
        if record is None:
            record = _record(vector, vector.mask, kind, drawn)
            if vector.may_be_kept and kind in {THRESHOLD, _PLAIN}:
                vector.records[kind] = record
        records += (record, _WEIGHT.pack(fused.single(weight)))
    return b"".join(records)


def _record(vector: TaskVector, mask: AbstractMask | None, kind: int, drawn: RandomMask | None) -> bytes:
    """Return the record of one task vector; one without a mask is told as if `drawn`'s numbers kept all of it."""
    kept, dropped = ThresholdMask(0.0, 0, vector.inputs.size), ThresholdMask(math.inf, 0, 0)
    field = limit = rank = row = 0
    lowest = spread = 0.0
    if isinstance(mask, ThresholdMask):
        kept = mask
    elif isinstance(mask, BandMask):
        kept, dropped = mask.wide, mask.narrow
    elif isinstance(mask, RandomMask):
        field, limit = mask.field.data_ptr(), mask.limit
    elif isinstance(mask, RankedRandomMask):
        field, rank, row = mask.field.data_ptr(), mask.rank.data_ptr(), mask.row
        lowest, spread = mask.lowest, mask.spread
    elif drawn is not None:
        field, limit = drawn.field.data_ptr(), 1 << 16
    whole = (kind, kept.first, kept.last, dropped.first, dropped.last, field, limit, rank, row)
    factor = 1.0 if vector.factor is None else float(vector.factor)
    numbers = (kept.threshold, dropped.threshold, lowest, spread, fused.single(factor))
    return _VECTOR.pack(*vector.parent.address, *whole, *numbers)
