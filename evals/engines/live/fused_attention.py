"""Softmax attention with the log of its normaliser, forward and backward: torch's fused CPU kernel, and the formula.

    S = q k^T * scaling + mask,   norm = log sum_k exp(S),   out = exp(S - norm) v

Attention over two sets of keys is the attention over each, weighted by their shares of the normaliser:

    out = (e^n1 out1 + e^n2 out2) / (e^n1 + e^n2),   norm = log(e^n1 + e^n2)

and its gradient is exact part by part, when each part's backward gets the *joined* `out` and `norm`:

    P = exp(S - norm),   dS = P * (g v^T - sum(g * out)),   dq = dS k * scaling,   dk = dS^T q * scaling,   dv = P^T g

The kernel's `norm` carries no gradient, so a join that autograd differentiates would be wrong. Sources: M. Milakov and
N. Gimelshein, "Online normalizer calculation for softmax", 2018; T. Dao et al., "FlashAttention", 2022, appendix B.

Torch offers the kernel with its normaliser under private names only; this is the one file that uses them.
"""

import torch
from torch import Tensor


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False, scaling: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return attention ``[B, H, L, D]`` and the log of its normaliser ``[B, H, L]``; on a CPU by torch's kernel.

    Args:
        q: Queries, ``[B, H, L, D]``.
        k: Keys, ``[B, Hk, Lk, D]``; H is a multiple of Hk.
        v: Values, ``[B, Hk, Lk, D]``.
        mask: Added to the scores, ``[B or 1, H or 1, L, Lk]``, in the dtype of `q`.
        causal: A query sees the keys up to its own place; without a mask.
        scaling: Factor of the scores; None for ``1 / sqrt(D)``.
    """
    if _has_kernel(q, v):
        out, norm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, causal, attn_mask=mask, scale=scaling
        )
        return out, norm
    return plain_attention(q, k, v, mask=mask, causal=causal, scaling=scaling)


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False, scaling: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return what `attention` does by the formula, for devices whose fused kernels do not return the normaliser."""
    keys, values = (_repeated(x, q.shape[1]) for x in (k, v))
    scores = _scores(q, keys, mask, causal=causal, scaling=scaling)
    norm = scores.logsumexp(-1)
    return torch.matmul((scores - norm.unsqueeze(-1)).exp().to(v.dtype), values), norm


def join(out: Tensor, norm: Tensor, other_out: Tensor, other_norm: Tensor) -> Tensor:
    """Return attention over two sets of keys from the attention over each, ``[B, H, L, D]``."""
    share = torch.sigmoid(norm - other_norm).unsqueeze(-1).to(out.dtype)
    return torch.lerp(other_out, out, share)


def attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    joined: tuple[Tensor, Tensor],
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scaling: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `q`, `k` and `v`, in their shapes, from these keys' part of the attention.

    Args:
        grad: Gradient of the output, ``[B, H, L, D]``.
        q: As in `attention`.
        k: The part's keys, with as many heads as `q`.
        v: The part's values, with as many heads as `q`.
        joined: Output and log of the normaliser over the keys of all parts, ``[B, H, L, D]`` and ``[B, H, L]``.
        mask: As in `attention`.
        causal: As in `attention`.
        scaling: As in `attention`.
    """
    out, norm = joined
    if _has_kernel(q, v):
        dq, dk, dv = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, norm, 0.0, causal, attn_mask=mask, scale=scaling
        )
        return dq, dk, dv
    return plain_attention_backward(grad, q, k, v, joined, mask=mask, causal=causal, scaling=scaling)


def plain_attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    joined: tuple[Tensor, Tensor],
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scaling: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `attention_backward` does by the formula."""
    out, norm = joined
    factor = q.shape[-1] ** -0.5 if scaling is None else scaling
    shares = (_scores(q, k, mask, causal=causal, scaling=scaling) - norm.unsqueeze(-1)).exp().to(v.dtype)
    inner = torch.matmul(grad, v.transpose(2, 3)) - (grad * out).sum(-1, keepdim=True)
    slopes = shares * inner * factor
    return (
        torch.matmul(slopes, k),
        torch.matmul(slopes.transpose(2, 3), q),
        torch.matmul(shares.transpose(2, 3), grad),
    )


def _has_kernel(q: Tensor, v: Tensor) -> bool:
    return q.device.type == "cpu" and q.shape[-1] == v.shape[-1]


def _repeated(x: Tensor, heads: int) -> Tensor:
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, *, causal: bool, scaling: float | None) -> Tensor:
    """Return the scores ``[B, H, L, Lk]``, in float32, of float64 inputs in float64."""
    product = torch.matmul(q, k.transpose(2, 3))
    product = product if product.dtype == torch.float64 else product.float()
    scores = product * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    if mask is not None:
        scores = scores + mask
    if causal:
        later = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return scores
