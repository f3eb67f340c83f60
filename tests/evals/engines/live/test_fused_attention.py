"""Torch's fused attention against the formula beside it, forward and backward, in parts and whole."""

from typing import Any

import pytest
import torch
from torch import Tensor

from evals.engines.live.fused_attention import (
    attention,
    attention_backward,
    join,
    plain_attention,
    plain_attention_backward,
)

HEADS, DIM, PREFIX, LENGTH, BATCH = 4, 16, 11, 7, 3


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def masked(kind: str) -> Tensor | None:
    if kind != "mask":
        return None
    return torch.zeros(LENGTH, LENGTH).double().masked_fill_(torch.ones(LENGTH, LENGTH).triu(2).bool(), -torch.inf)


@pytest.mark.parametrize("kind", ["causal", "mask", "all"])
@pytest.mark.parametrize("key_heads", [HEADS, HEADS // 2])
def test_the_kernel_is_the_formula(kind: str, key_heads: int) -> None:
    q = drawn(BATCH, HEADS, LENGTH, DIM)
    k, v = (drawn(BATCH, key_heads, LENGTH, DIM) * scale for scale in (1.0, -0.7))
    mask = masked(kind)
    options: Any = {"mask": None if mask is None else mask[None, None], "causal": kind == "causal", "scaling": 0.3}
    for fused, plain in zip(attention(q, k, v, **options), plain_attention(q, k, v, **options), strict=True):
        torch.testing.assert_close(fused.double(), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backward", [attention_backward, plain_attention_backward])
def test_the_parts_of_a_joined_attention_have_the_gradient_of_the_whole(backward: Any) -> None:
    """The prefix is attended by all rows as one; each part's backward gets the joined output and normaliser."""
    q = drawn(BATCH, HEADS, LENGTH, DIM).requires_grad_()
    k, v = ((drawn(BATCH, HEADS, LENGTH, DIM) * scale).requires_grad_() for scale in (0.9, -0.7))
    keys, values = ((drawn(1, HEADS, PREFIX, DIM) * scale).requires_grad_() for scale in (1.1, 0.6))
    mask = torch.zeros(LENGTH, LENGTH).double().masked_fill_(torch.ones(LENGTH, LENGTH).triu(1).bool(), -torch.inf)
    all_k, all_v = (torch.cat([a.expand(BATCH, -1, -1, -1), b], 2) for a, b in ((keys, k), (values, v)))
    whole_mask = torch.cat([torch.zeros(LENGTH, PREFIX).double(), mask], 1)[None, None]
    whole, norm = plain_attention(q, all_k, all_v, mask=whole_mask)
    grad = drawn(*whole.shape)
    expected = torch.autograd.grad(whole, (q, k, v, keys, values), grad)

    def folded(x: Tensor) -> Tensor:
        return x.transpose(0, 1).reshape(1, HEADS, BATCH * LENGTH, *x.shape[3:])

    def unfolded(x: Tensor) -> Tensor:
        return x.view(HEADS, BATCH, LENGTH, *x.shape[3:]).transpose(0, 1)

    with torch.no_grad():
        own, own_norm = attention(q, k, v, mask=mask[None, None])
        shared, shared_norm = map(unfolded, attention(folded(q), keys, values))
        out, joined_norm = join(own, own_norm, shared, shared_norm), torch.logaddexp(own_norm, shared_norm)
        torch.testing.assert_close(out, whole, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(joined_norm, norm, rtol=1e-12, atol=1e-12)
        own_q, *own_rest = backward(grad, q, k, v, (out, joined_norm), mask=mask[None, None])
        prefix_q, *prefix_rest = backward(
            folded(grad), folded(q), keys, values, (folded(out), folded(joined_norm)), mask=None
        )
    found = (own_q + unfolded(prefix_q), *own_rest, *prefix_rest)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
