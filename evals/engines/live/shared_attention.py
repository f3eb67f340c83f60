"""Attention that joins a prefix held once with a batch of rows, registered through transformers' own interface.

A prefix ``[1, Hk, Lp, D]`` is never copied into the rows: attention over the prefix and over the rows' own keys are
computed apart and joined by their normalisers (`fused_attention`). Source for shared prefixes: J. Juravsky et al.,
"Hydragen: High-Throughput LLM Inference with Shared Prefixes", 2024.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from evals.engines.live.fused_attention import attention, join
from evals.engines.live.packed_attention import Parts, packed_attention

NAME = "mergesearch_shared"
"""Under this name the attention function is registered with transformers."""


class UnshareableError(Exception):
    """The model's attention cannot be computed from a shared prefix; its text says why."""


class SlotWriter(Protocol):
    """Where generation keeps the keys and values of its rows."""

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add tokens' ``[B, Hk, L, D]`` and return all that the rows hold, the new ones last, ``[B, Hk, Lk, D]``."""


KeyValues = list[tuple[Tensor, Tensor]]
"""Keys and values of some tokens, per layer, each ``[B, Hk, L, D]``."""
Segment = tuple[slice, Tensor | None]
"""Neighbouring tokens that attend to one another alone, with the mask added to their scores; None means causal."""


@dataclass
class AttentionState:
    """What the attention of one forward pass knows: who attends to whom, and keys and values from elsewhere.

    Attributes:
        reach: Largest position that is attended from, plus 1.
        prefix: Keys and values of the prefix per layer, ``[1, Hk, Lp, D]``; None without a prefix.
        mask: Added to the rows' own scores, the stem's left out, ``[B, 1, L, Lk]``; None means causal.
        stem: First tokens of a row that are causal and seen by all that follows.
        captured: Collects the rows' own keys and values per layer; None to let them go.
        slots: Keys and values of texts that are being generated; `mask` says which of them are attended to.
        segments: The only row's parts, in place of its mask.
        parts: Who attends to whom in the only row, prefixes included; differentiable, and in place of all the above.
        layers_seen: Layers that have attended in this pass.
    """

    reach: int
    prefix: KeyValues | None = None
    mask: Tensor | None = None
    stem: int = 0
    captured: KeyValues | None = None
    slots: SlotWriter | None = None
    segments: tuple[Segment, ...] = ()
    parts: Parts | None = None
    layers_seen: set[int] = field(default_factory=set)


_current: ContextVar[AttentionState | None] = ContextVar("mergesearch_pass", default=None)


@contextmanager
def shared_attention(model: Any) -> Iterator[None]:
    """Give a model a copy of its configuration with the shared attention inside, and its own back afterwards."""
    register()
    copies: dict[int, Any] = {}
    copy.deepcopy(model.config, copies)  # by identity of the original, its parts included
    owners = [(module, module.config) for module in model.modules() if id(getattr(module, "config", None)) in copies]
    for module, own in owners:
        module.config = copies[id(own)]
    try:
        model.set_attn_implementation(NAME)
        yield
    finally:
        for module, own in owners:
            module.config = own


@contextmanager
def using(state: AttentionState) -> Iterator[None]:
    """Let the attention of every forward pass inside follow `state`."""
    token = _current.set(state)
    try:
        yield
    finally:
        _current.reset(token)


def once_more() -> AbstractContextManager[None]:
    """Return a context in which layers of the current pass are run again, on any thread."""
    state = _current.get()
    if state is None:
        raise UnshareableError("its attention is computed outside of a scoring pass")
    return using(replace(state, layers_seen=set()))


def register() -> None:
    """Make the attention known to transformers; doing so again changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - part of transformers' signature
    *,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute attention under the current pass.

    Args:
        module: The model's attention layer.
        query: ``[B, H, L, D]``.
        key: ``[B, Hk, L, D]``; H is a multiple of Hk.
        value: ``[B, Hk, L, D]``.
        attention_mask: Not used: the pass says who sees whom.
        scaling: Factor of the scores; None for ``1 / sqrt(D)``.
        options: What else the model asks for; refused where it would change the result.

    Raises:
        UnshareableError: The model asks for something that a shared prefix cannot give.
    """
    state = _current.get()
    if state is None:
        raise UnshareableError("its attention is computed outside of a scoring pass")
    _refuse(module, options, state.reach)
    layer = int(getattr(module, "layer_idx", -1))
    if layer < 0 or layer in state.layers_seen:
        raise UnshareableError("its layers do not number their attention, or compute it twice")
    state.layers_seen.add(layer)
    if state.parts is not None:
        return packed_attention(query, key, value, state.parts, scaling).transpose(1, 2), None
    if state.captured is not None:
        state.captured.append((key, value))
    if state.slots is not None:
        key, value = state.slots.write(layer, key, value)
    prefix = None if state.prefix is None else state.prefix[layer]
    if state.stem:
        return _stem_and_branches(query, key, value, state, prefix, scaling), None
    if query.shape[2] == 1 and state.slots is not None:
        return _decode(query, key, value, state.mask, prefix, scaling).transpose(1, 2), None
    return _rows(query, key, value, state.mask, prefix, scaling, state.segments).transpose(1, 2), None


def _refuse(module: torch.nn.Module, options: dict[str, Any], reach: int) -> None:
    window = options.get("sliding_window")
    if isinstance(window, int) and window < reach:
        raise UnshareableError(f"its sliding window of {window} tokens is shorter than the prompts ({reach} tokens)")
    for name, why in (("softcap", "caps its scores"), ("s_aux", "has attention sinks"), ("position_bias", "biases")):
        if options.get(name) is not None:
            raise UnshareableError(f"its attention {why}")
    if not getattr(module, "is_causal", True):
        raise UnshareableError("its attention is not causal")


def _stem_and_branches(
    q: Tensor, k: Tensor, v: Tensor, state: AttentionState, prefix: tuple[Tensor, Tensor] | None, scaling: float | None
) -> Tensor:
    """Return ``[B, L, H, D]`` of rows that begin with a stem: it is causal, what follows takes it as its prefix."""
    stem, keys, values = (x[:, :, : state.stem] for x in (q, k, v))
    q, k, v = (x[:, :, state.stem :] for x in (q, k, v))
    above = _rows(stem, keys, values, None, prefix, scaling)
    if prefix is not None:
        keys, values = (torch.cat(pair, dim=2) for pair in zip(prefix, (keys, values), strict=True))
    below = _rows(q, k, v, state.mask, (keys, values), scaling)
    return torch.cat([above.transpose(1, 2), below.transpose(1, 2)], dim=1)


def _rows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    prefix: tuple[Tensor, Tensor] | None,
    scaling: float | None,
    segments: tuple[Segment, ...] = (),
) -> Tensor:
    if segments:
        out, norm = _by_segment(q, k, v, segments, scaling)
    else:
        out, norm = attention(q, k, v, mask=mask, causal=mask is None, scaling=scaling)
    if prefix is None:
        return out
    batch, heads, length, dim = q.shape
    folded = q.transpose(0, 1).reshape(1, heads, batch * length, dim)
    out_p, norm_p = attention(folded, *prefix, scaling=scaling)
    out_p = out_p.view(heads, batch, length, -1).transpose(0, 1)
    return join(out, norm, out_p, norm_p.view(heads, batch, length).transpose(0, 1))


def _by_segment(
    q: Tensor, k: Tensor, v: Tensor, segments: tuple[Segment, ...], scaling: float | None
) -> tuple[Tensor, Tensor]:
    """Return attention and normaliser of the only row, each segment computed on its own."""
    parts = [
        attention(q[:, :, here], k[:, :, here], v[:, :, here], mask=mask, causal=mask is None, scaling=scaling)
        for here, mask in segments
    ]
    out = torch.cat([out.transpose(1, 2) for out, _ in parts], dim=1).transpose(1, 2)
    return out, torch.cat([norm for _, norm in parts], dim=2)


def _decode(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, prefix: tuple[Tensor, Tensor] | None, scaling: float | None
) -> Tensor:
    """One token per row: the query heads of one key head become its query positions."""
    batch, heads, _, dim = q.shape
    shared = k.shape[1]
    grouped = q.reshape(batch, shared, heads // shared, dim)
    out, norm = attention(grouped, k, v, mask=mask, scaling=scaling)
    if prefix is not None:
        folded = grouped.transpose(0, 1).reshape(1, shared, -1, dim)
        out_p, norm_p = attention(folded, *prefix, scaling=scaling)
        out_p = out_p.view(shared, batch, heads // shared, -1).transpose(0, 1)
        out = join(out, norm, out_p, norm_p.view(shared, batch, -1).transpose(0, 1))
    return out.reshape(batch, heads, 1, -1)
