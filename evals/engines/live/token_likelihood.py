"""Log-probabilities of tokens under an output layer, and their gradient, some rows of logits at a time.

    log p(t) = z_t - log sum_v exp z_v,   d log p(t) / dz_v = [v = t] - p_v

Logits of a whole minibatch would be the largest tensor by far. The probabilities are kept for the backward pass where
there is room, and computed again where there is not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from evals.errors import ScoringError

ROWS = 256
"""Rows of logits that are computed at a time."""


@dataclass(frozen=True)
class Readings:
    """Which tokens are read from which rows; two arrays of one length.

    Attributes:
        row: Rows, ``[M]``.
        token: Tokens, ``[M]``.
    """

    row: Tensor
    token: Tensor


def token_likelihood(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, read: Readings, *, keep: bool = True, rows: int = ROWS
) -> Tensor:
    """Return the log-probability of each token read, ``[M]`` in float32, of float64 inputs in float64.

    Args:
        hidden: Inputs of the output layer, ``[N, D]``.
        weight: Its weights, ``[V, D]``.
        bias: Its bias, ``[V]``.
        read: The tokens.
        keep: Keep ``[N, V]`` probabilities for the backward pass.
        rows: Rows of logits at a time.

    Raises:
        ScoringError: A logit that is needed is not finite.
    """
    out: Tensor = _TokenLikelihood.apply(hidden, weight, bias, read, rows, [] if keep else None)  # type: ignore[no-untyped-call]  # torch has no types here
    return out


def likelihood_of_logits(logits: Tensor, read: Readings) -> Tensor:
    """Return what `token_likelihood` does, from ``[N, V]`` logits by autograd."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    norms = wide.logsumexp(-1)
    _check(norms)
    return wide[read.row, read.token] - norms[read.row]


class _TokenLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        read: Readings,
        rows: int,
        kept: list[Tensor] | None,
    ) -> Tensor:
        parts = list(_parts(read, len(hidden), rows))
        norms = []
        result = torch.zeros(len(read.row), dtype=_wide(hidden), device=hidden.device)
        for here, which in parts:
            logits = _logits(hidden[here], weight, bias)
            norm = logits.logsumexp(-1)
            own = read.row[which] - here.start
            result[which] = logits[own, read.token[which]] - norm[own]
            norms.append(norm)
            if kept is not None:
                kept.append(logits.sub_(norm[:, None]).exp_())
        _check(torch.cat(norms))
        ctx.save_for_backward(hidden, weight, bias, *norms, *(kept or ()))
        ctx.read, ctx.parts = read, parts
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        hidden, weight, bias, *rest = ctx.saved_tensors
        norms, kept = rest[: len(ctx.parts)], rest[len(ctx.parts) :]
        wanted = ctx.needs_input_grad
        dhidden = torch.zeros_like(hidden) if wanted[0] else None
        dweight: Tensor | None = None
        dbias = torch.zeros(bias.shape, dtype=_wide(bias), device=bias.device) if wanted[2] else None
        for i, (here, which) in enumerate(ctx.parts):
            shares = kept[i] if kept else _logits(hidden[here], weight, bias).sub_(norms[i][:, None]).exp_()
            own, slopes = ctx.read.row[which] - here.start, grad[which]
            totals = torch.zeros_like(norms[i]).index_add_(0, own, slopes)
            dlogits = shares.mul_(-totals[:, None])
            dlogits.index_put_((own, ctx.read.token[which]), slopes, accumulate=True)
            if dbias is not None:
                dbias += dlogits.sum(0)
            dlogits = dlogits.to(weight.dtype)
            if dhidden is not None:
                dhidden[here] = dlogits @ weight
            if wanted[1]:
                dweight = _plus_product(dweight, dlogits, hidden[here], several=len(ctx.parts) > 1)
        return (
            dhidden,
            None if dweight is None else dweight.to(weight.dtype),
            None if dbias is None else dbias.to(bias.dtype),
            None,
            None,
            None,
        )


def _plus_product(total: Tensor | None, a: Tensor, b: Tensor, *, several: bool) -> Tensor:
    """Return ``total + a^T b``; in float32 at least where there are several addends."""
    if total is None:
        product = a.T @ b
        return product.to(_wide(product)) if several else product
    return total.addmm_(a.T, b) if total.dtype == a.dtype else total.add_(a.T @ b)


def _parts(read: Readings, rows: int, most: int) -> Iterator[tuple[slice, Tensor]]:
    """Go through spans of rows, each with the readings in it."""
    for start in range(0, rows, most):
        here = slice(start, min(start + most, rows))
        yield here, ((read.row >= here.start) & (read.row < here.stop)).nonzero()[:, 0]


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return logits in float32 at least; nobody else has them."""
    logits = linear(hidden, weight, bias)
    return logits.to(_wide(logits))


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _check(norms: Tensor) -> None:
    if not bool(torch.isfinite(norms).all()):
        raise ScoringError("scoring: logits must be finite, got nan or infinity; drop this candidate")
