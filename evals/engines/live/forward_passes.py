"""Runs the passes of a plan on the model and reads log-likelihoods from the logits that are needed."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evals.engines.live.prefix_cache import PrefixCache, continued
from evals.engines.live.prefix_tree import build_plan
from evals.engines.live.scoring_plan import Ints, PassBudget, Plan, PlannedPass
from evals.engines.live.shared_attention import (
    AttentionState,
    KeyValues,
    Segment,
    UnshareableError,
    shared_attention,
    using,
)
from evals.errors import ScoringError
from evals.prompts.token_cache import TokenPair

MIN_SEGMENT = 32
"""Shorter segments stay together under a mask: the attention kernel takes so many queries at a time."""
_PROBE = 40


class PassRunner:
    """Runs forward passes of one model; the output layer computes only the logits that are needed.

    Args:
        model: A causal language model of transformers, under `shared_attention`.
        device: Where it is.
        prefix_cache: Keys and values of earlier passes with the same weights, and where these leave theirs; None to
            keep nothing.

    Attributes:
        reused: Tokens that were not run, since the cache had their keys and values.
    """

    def __init__(self, model: Any, device: torch.device, prefix_cache: PrefixCache | None = None) -> None:
        self._model = model
        self._device = device
        self._prefix_cache = prefix_cache
        self.reused = 0

    def logits(self, state: AttentionState, ids: Tensor, positions: Tensor, needed: Tensor) -> Tensor:
        """Return logits ``[N, vocabulary]``, in the model's dtype.

        Args:
            state: What the attention of this pass shares.
            ids: Tokens, ``[B, L]``, int64.
            positions: Their positions, ``[B, L]``, int64.
            needed: Flat places in ``[B * L]`` whose logits are wanted, ``[N]``.

        Raises:
            UnshareableError: The model's attention or output layer cannot be used this way.
        """

        def keep(_module: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            hidden = args[0]
            return (hidden.reshape(-1, hidden.shape[-1])[needed][None], *args[1:])

        hook = self._model.get_output_embeddings().register_forward_pre_hook(keep)
        try:
            with using(state):
                logits: Tensor = self._model(input_ids=ids, position_ids=positions, use_cache=False).logits
        finally:
            hook.remove()
        if not state.layers_seen:
            raise UnshareableError("its attention does not go through transformers' attention interface")
        if logits.shape[:2] != (1, len(needed)):
            raise UnshareableError("its head is not a plain output layer")
        if state.captured is not None and len(state.captured) != len(state.layers_seen):
            raise UnshareableError("its layers cannot be told apart")
        return logits[0]

    def score(self, plan: Plan) -> list[tuple[float, bool]]:
        """Return for each request the log-likelihood of its continuation, in nats, and whether it is the greedy one.

        Raises:
            ScoringError: A needed logit is NaN.
        """
        totals = np.zeros(plan.requests)
        greedy = np.ones(plan.requests, dtype=bool)
        for group in plan.groups:
            prefix = None if group.prefix is None else self._stem(group.prefix, totals, greedy)
            for forward in group.passes:
                if forward.stem:
                    self._stem_and_branches(forward, totals, greedy)
                else:
                    state = AttentionState(int(forward.positions.max()) + 1, prefix)
                    if self._device.type == "cpu" and len(forward.ids) == 1:
                        state.segments = self._segments(forward.end)
                    else:
                        state.mask = self._mask(forward.end)
                    self._read(forward, state, totals, greedy)
        return [(float(total), bool(alike)) for total, alike in zip(totals, greedy, strict=True)]

    def _stem(self, whole: PlannedPass, totals: Any, greedy: Any) -> KeyValues:
        """Return the keys and values of a prefix, of which only what is not cached is run."""
        tokens, state = whole.ids[0], AttentionState(whole.ids.shape[1], captured=[])
        known, layers = self._cached(tokens)
        known = min(known, len(tokens) - bool(len(whole.needed)))
        if known:
            state.prefix = continued(layers, known, [])
        if known < len(tokens):
            self._read(whole.after(known), state, totals, greedy)
        layers = continued(state.prefix or [], known, state.captured or [])
        if self._prefix_cache is not None:
            self._prefix_cache.keep(tokens, layers, known)
        self.reused += known
        return layers

    def _stem_and_branches(self, whole: PlannedPass, totals: Any, greedy: Any) -> None:
        """Run a stem, without its cached beginning, and the continuations behind it."""
        known, layers = self._cached(whole.ids[0, : whole.stem - 1])
        rest, prefix = whole.after(known), continued(layers, known, []) if known else None
        captured: KeyValues | None = None if self._prefix_cache is None else []
        reach = int(whole.positions.max()) + 1
        self._read(rest, AttentionState(reach, prefix, self._mask(whole.end), rest.stem, captured), totals, greedy)
        if self._prefix_cache is not None:
            new = [(key[:, :, : rest.stem], value[:, :, : rest.stem]) for key, value in captured or []]
            self._prefix_cache.keep(whole.ids[0, : whole.stem], continued(prefix or [], known, new), known)
        self.reused += known

    def _cached(self, tokens: Ints) -> tuple[int, KeyValues]:
        """Return how many first tokens need not be run again, with their keys and values."""
        return (0, []) if self._prefix_cache is None else self._prefix_cache.longest(tokens)

    def _mask(self, end: Ints | None) -> Tensor | None:
        """Return what to add to the scores of rows in which node j is seen by i iff j <= i < end[j]."""
        if end is None:
            return None
        until = torch.from_numpy(end).to(self._device)[:, None, :]
        place = torch.arange(end.shape[1], device=self._device)
        seen = (place[None, None, :] <= place[None, :, None]) & (place[None, :, None] < until)
        mask = torch.zeros(seen.shape, dtype=self._model.dtype, device=self._device)
        return mask.masked_fill_(~seen, float("-inf"))[:, None]

    def _segments(self, end: Ints | None) -> tuple[Segment, ...]:
        """Cut the only row where nothing is seen from beyond; each segment has a mask unless it is plainly causal."""
        if end is None:
            return ()
        seen, places = np.maximum.accumulate(end[0]), np.arange(1, end.shape[1])
        cuts = [0]
        for place in places[seen[:-1] <= places].tolist():
            if place - cuts[-1] >= MIN_SEGMENT:
                cuts.append(place)
        segments = [(slice(a, b), end[:, a:b] - a) for a, b in pairwise([*cuts, end.shape[1]])]
        return tuple((here, None if (own == own.shape[1]).all() else self._mask(own)) for here, own in segments)

    def _read(self, forward: PlannedPass, state: AttentionState, totals: Any, greedy: Any) -> None:
        """Run one pass and add what it tells to `totals` and `greedy`."""
        ids, positions = (torch.from_numpy(array).to(self._device) for array in (forward.ids, forward.positions))
        targets = forward.targets
        needed = forward.needed if len(forward.needed) else np.zeros(1, dtype=np.int64)
        logits = self.logits(state, ids, positions, torch.from_numpy(needed).to(self._device))
        if not len(targets.row):
            return
        row, token = (torch.from_numpy(array).to(self._device) for array in (targets.row, targets.token))
        likelihood, alike = _read_logits(logits.float(), row, token)
        np.add.at(totals, targets.request, likelihood.double().cpu().numpy())
        np.logical_and.at(greedy, targets.request, alike.cpu().numpy())


def _read_logits(logits: Tensor, row: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probability and greediness of each token in its row of `logits`, which are overwritten.

    Raises:
        ScoringError: A row is not finite.
    """
    highest = logits.amax(-1)
    value = logits[row, token]
    alike = value == highest[row]
    reached = row[alike]
    alike[alike.clone()] = logits[reached].argmax(-1) == token[alike]  # of several highest tokens, the first is greedy
    norms = logits.sub_(highest[:, None]).exp_().sum(-1).log_() + highest
    if not bool(torch.isfinite(norms).all()):
        raise ScoringError("scoring: logits must be finite, got nan or infinity; drop this candidate")
    return value - norms[row], alike


def probe(model: Any) -> None:
    """Compare a shared pass with the model's own on a few tokens.

    Raises:
        UnshareableError: They disagree, or the model's positions depend on the longest text of a batch.
        ScoringError: The model itself gives NaN.
    """
    rope = getattr(model.config, "rope_scaling", None) or getattr(model.config, "rope_parameters", None) or {}
    kind = rope.get("rope_type") if isinstance(rope, dict) else None
    if kind in {"dynamic", "longrope"}:
        raise UnshareableError(f"its positions ({kind}) depend on the length of the text")
    vocabulary = model.get_input_embeddings().num_embeddings
    tokens = np.random.default_rng(0).integers(0, vocabulary, _PROBE).tolist()
    stem = tokens[:24]
    requests = [
        TokenPair(tuple(stem), tuple(tokens[24:30])),
        TokenPair(tuple(stem), tuple(tokens[24:26] + tokens[30:34])),
    ]
    requests.append(TokenPair(tuple(stem[:20] + tokens[34:37]), tuple(tokens[37:40])))
    device = next(iter(model.parameters())).device
    plan = build_plan(requests, len(stem) + 8, PassBudget(min_prefix=8))
    with shared_attention(model):
        shared = [score for score, _ in PassRunner(model, device).score(plan)]
    plain = [_plain_score(model, request, device) for request in requests]
    if not np.isfinite(plain).all():
        raise ScoringError("scoring: logits must be finite, got nan or infinity; drop this candidate")
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.25
    if not np.allclose(shared, plain, rtol=tolerance, atol=tolerance):
        raise UnshareableError("its results change when a prefix is shared")


def _plain_score(model: Any, request: TokenPair, device: torch.device) -> float:
    """Score a request with the model's own attention."""
    ids = torch.tensor([*request.context, *request.continuation], device=device)
    logits = model(input_ids=ids[None, :-1], use_cache=False).logits[0].float()
    count = len(request.continuation)
    likelihood = logits[-count:].log_softmax(-1).gather(1, ids[-count:, None])
    return float(likelihood.sum())
