"""Attention of one row that holds many questions and the prefixes that they share, with its exact gradient.

Each part of the row attends to itself; parts that hang on a prefix attend to it too, and both are joined by their
normalisers. Autograd must not look inside (`fused_attention` says why), so this is one function with a backward of its
own: every part gets the joined output and normaliser, and the prefix's keys and values the sum over all that saw them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evals.engines.live.fused_attention import attention, attention_backward, join


@dataclass(frozen=True)
class Part:
    """Neighbouring tokens of a row and the neighbouring tokens that they attend to.

    Attributes:
        queries: Tokens that attend.
        keys: Tokens that are attended to.
        causal: A query sees keys up to its own place; without a mask.
        mask: Added to the scores, ``[1, 1, queries, keys]``; None means nothing.
    """

    queries: slice
    keys: slice
    causal: bool = False
    mask: Tensor | None = None


@dataclass(frozen=True)
class Parts:
    """Who attends to whom in a row.

    Attributes:
        own: Parts that attend to themselves; together they are the row.
        shared: Parts that attend to a prefix besides; none has a token in common with another.
    """

    own: tuple[Part, ...]
    shared: tuple[Part, ...]


def packed_attention(q: Tensor, k: Tensor, v: Tensor, parts: Parts, scaling: float | None) -> Tensor:
    """Return attention ``[1, H, L, D]`` of a row; differentiable, once.

    Args:
        q: Queries, ``[1, H, L, D]``.
        k: Keys, ``[1, Hk, L, D]``; H is a multiple of Hk.
        v: Values, ``[1, Hk, L, D]``.
        parts: Who attends to whom.
        scaling: Factor of the scores; None for ``1 / sqrt(D)``.
    """
    out: Tensor = _PackedAttention.apply(q, k, v, parts, scaling)  # type: ignore[no-untyped-call]  # torch has no types here
    return out


class _PackedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, parts: Parts, scaling: float | None) -> Tensor:
        _, heads, length, _ = q.shape
        out = v.new_empty(1, length, heads, v.shape[-1]).transpose(1, 2)
        norm = torch.empty(1, heads, length, dtype=_wide(q), device=q.device)
        for part in parts.own:
            here, (keys, values) = part.queries, (x[:, :, part.keys] for x in (k, v))
            found = attention(q[:, :, here], keys, values, mask=part.mask, causal=part.causal, scaling=scaling)
            out[:, :, here], norm[:, :, here] = found
        for part in parts.shared:
            here, (keys, values) = part.queries, (x[:, :, part.keys] for x in (k, v))
            other, other_norm = attention(_folded(q[:, :, here], k.shape[1]), keys, values, scaling=scaling)
            other, other_norm = _unfolded(other, heads), _unfolded(other_norm, heads)
            out[:, :, here] = join(out[:, :, here], norm[:, :, here], other, other_norm)
            norm[:, :, here] = torch.logaddexp(norm[:, :, here], other_norm)
        ctx.save_for_backward(q, k, v, out, norm)
        ctx.parts, ctx.scaling = parts, scaling
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, norm = ctx.saved_tensors
        (grad,) = grads
        heads, shared = q.shape[1], k.shape[1]
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        for part in ctx.parts.own:
            here = part.queries
            keys, values = (x[:, :, here].repeat_interleave(heads // shared, 1) for x in (k, v))
            joined = out[:, :, here], norm[:, :, here]
            options = {"mask": part.mask, "causal": part.causal, "scaling": ctx.scaling}
            found = attention_backward(grad[:, :, here], q[:, :, here], keys, values, joined, **options)
            dq[:, :, here] = found[0]
            dk[:, :, here], dv[:, :, here] = (x.reshape(1, shared, -1, *x.shape[2:]).sum(2) for x in found[1:])
        for part in ctx.parts.shared:
            keys, values = (x[:, :, part.keys] for x in (k, v))
            ours = [_folded(x[:, :, part.queries], shared) for x in (grad, q, out, norm)]
            found = attention_backward(ours[0], ours[1], keys, values, (ours[2], ours[3]), scaling=ctx.scaling)
            dq[:, :, part.queries] += _unfolded(found[0], heads)
            dk[:, :, part.keys] += found[1]
            dv[:, :, part.keys] += found[2]
        return dq, dk, dv, None, None


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _folded(x: Tensor, heads: int) -> Tensor:
    """Return ``[1, Hk, H / Hk * L, ...]`` of ``[1, H, L, ...]``: the query heads of a key head become its queries."""
    return x.reshape(1, heads, -1, *x.shape[3:])


def _unfolded(x: Tensor, heads: int) -> Tensor:
    return x.reshape(1, heads, -1, *x.shape[3:])
