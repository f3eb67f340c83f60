"""Attention over a prefix and a batch of rows, joined, against attention over both at once."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from evals.engines.live.shared_attention import AttentionState, UnshareableError, attend, using

HEADS, SHARED, DIM, PREFIX, LENGTH, BATCH = 4, 2, 8, 7, 5, 3


def tensors(batch: int, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(length)
    return torch.randn(batch, HEADS, length, DIM), *(torch.randn(batch, SHARED, length, DIM) for _ in range(2))  # type: ignore[return-value]


def module(layer: int = 0) -> Any:
    return SimpleNamespace(layer_idx=layer, is_causal=True)


def test_a_joined_prefix_is_attention_over_both() -> None:
    q, k, v = tensors(BATCH, LENGTH)
    _, prefix_k, prefix_v = tensors(1, PREFIX)
    with using(AttentionState(reach=PREFIX + LENGTH, prefix=[(prefix_k, prefix_v)])):
        found, _ = attend(module(), q, k, v, None, scaling=0.3)
    whole_k = torch.cat([prefix_k.expand(BATCH, -1, -1, -1), k], 2)
    whole_v = torch.cat([prefix_v.expand(BATCH, -1, -1, -1), v], 2)
    seen = torch.ones(LENGTH, PREFIX + LENGTH, dtype=torch.bool).tril(PREFIX)
    expected = scaled_dot_product_attention(q, whole_k, whole_v, attn_mask=seen, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(found, expected.transpose(1, 2))


def test_pieces_of_a_row_are_attention_under_their_mask() -> None:
    q, k, v = tensors(1, LENGTH)
    _, prefix_k, prefix_v = tensors(1, PREFIX)
    own = torch.zeros(LENGTH, LENGTH, dtype=torch.bool)
    own[:2, :2] = own[2:, 2:] = True
    own = own.tril()
    own[4, 3] = False
    mask = torch.zeros(LENGTH, LENGTH).masked_fill_(~own, float("-inf"))[None, None]
    found = []
    for how in ({"mask": mask}, {"segments": ((slice(0, 2), None), (slice(2, LENGTH), mask[:, :, 2:, 2:]))}):
        with using(AttentionState(PREFIX + LENGTH, [(prefix_k, prefix_v)], **how)):
            found.append(attend(module(), q, k, v, None)[0])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("options", "why"), [({"sliding_window": 4}, "window"), ({"softcap": 30.0}, "caps"), ({"s_aux": 1.0}, "sinks")]
)
def test_what_cannot_be_shared_is_refused(options: dict[str, Any], why: str) -> None:
    q, k, v = tensors(1, LENGTH)
    with using(AttentionState(reach=LENGTH)), pytest.raises(UnshareableError, match=why):
        attend(module(), q, k, v, None, **options)
    with pytest.raises(UnshareableError, match="outside"):
        attend(module(), q, k, v, None)
