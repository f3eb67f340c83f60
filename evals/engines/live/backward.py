"""The scorer's passes, differentiable: log-likelihoods, an objective of them, and its gradient by the weights.

What happens to the requests of a minibatch: `prefix_tree` plans their passes, `packed_row` lays these side by side in
one row, the model runs it once, `token_likelihood` reads it, the objective's gradient by the log-likelihoods goes back
through the row, and `weight_products` hands over the gradient of one weight after the other.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from evals.engines.live.forward_passes import MIN_SEGMENT, probe
from evals.engines.live.layer_checkpoints import checkpointed, hidden_bytes, layers_of, saved_bytes
from evals.engines.live.packed_row import PackedRow, pack
from evals.engines.live.pass_budget import free_bytes, keep_freed_memory
from evals.engines.live.prefix_tree import build_plan
from evals.engines.live.scoring_plan import ROW, PassBudget
from evals.engines.live.shared_attention import AttentionState, UnshareableError, once_more, shared_attention, using
from evals.engines.live.token_likelihood import Readings, likelihood_of_logits, token_likelihood
from evals.engines.live.weight_products import LowRank, Sink, gradients_to, products_to
from evals.errors import ScoringError
from evals.prompts.token_cache import TokenPair

Objective = Callable[[Tensor], Tensor]
"""Makes one number of log-likelihoods ``[requests]``, float64 on the CPU, in the order of the requests."""

_SHARE = 0.5
"""Of the free memory, for all that a backward pass keeps; the rest is for what it needs in passing."""
_HEAD = 0.25
"""Of that share, for probabilities over the vocabulary."""
_PROBE = 64
"""Tokens with which memory is measured."""
_LEAST, _MOST = 256, 1 << 20
"""Tokens of the smallest and of the largest row."""


@dataclass(frozen=True)
class Differentiated:
    """What a backward pass found.

    Attributes:
        value: The objective.
        loglikelihoods: Of the requests, ``[requests]``, float64.
        rows: Rows, each with a backward pass of its own.
        checkpointed: Layers kept their inputs only and ran twice.
    """

    value: float
    loglikelihoods: Tensor
    rows: int
    checkpointed: bool


class BackwardPass:
    """Gradients of an objective of log-likelihoods by the weights that a live model holds.

    >>> def objective(likelihoods):
    ...     return likelihoods.softmax(0)[gold]
    >>> def sink(gradient):
    ...     print(gradient.norm())
    >>> weight = model.model.layers[0].mlp.up_proj.weight
    >>> BackwardPass(model, max_length=2048).run(requests, objective, [(weight, sink)])  # doctest: +SKIP

    A minibatch is one row and one graph where memory allows. Where it does not, layers keep their inputs only; where
    that does not fit either, there are several rows: each weight's gradient comes in as many addends, and a forward
    pass without gradients comes first, as an objective need not be a sum over requests.

    Args:
        model: A causal language model of transformers.
        max_length: Longest input.
        checkpoint: Whether layers keep their inputs only; "auto": where the measured need asks for it.
        tokens: Largest row; unset: what memory allows.

    Raises:
        UnshareableError: The model's attention cannot share prefixes, so that this cannot be had.
        ScoringError: Logits are not finite.
    """

    def __init__(
        self,
        model: Any,
        *,
        max_length: int,
        checkpoint: bool | Literal["auto"] = "auto",
        tokens: int | None = None,
    ) -> None:
        self._model = model.eval()
        self._max_length = max_length
        self._checkpoint = checkpoint
        self._tokens = tokens
        self._device: torch.device = next(iter(model.parameters())).device
        keep_freed_memory(self._device)
        self._room = int(_SHARE * free_bytes(self._device))
        self._measured: dict[tuple[int, int], float] = {}
        with torch.no_grad():
            probe(model)
        self._plain_head = _has_plain_head(model, self._device)

    def run(
        self,
        requests: Sequence[TokenPair],
        objective: Objective,
        sinks: Sequence[tuple[nn.Parameter, Sink]] = (),
        low_rank: Sequence[LowRank] = (),
    ) -> Differentiated:
        """Hand over the gradient of an objective by weights.

        Args:
            requests: What is scored.
            objective: Makes one number of their log-likelihoods.
            sinks: Parameters, and what takes the gradient of each, in the parameter's shape and dtype. A gradient is
                let go after the call. With several rows there is one call per row, whose gradients add up.
            low_rank: Linear layers of which only products with low-rank matrices are wanted; likewise.

        Raises:
            UnshareableError: As the class.
            ScoringError: Logits are not finite, or weights were written to between forward and backward pass.
        """
        with gradients_to(self._model, sinks), products_to(self._model, low_rank), shared_attention(self._model):
            rows, checkpoint = self._rows(requests, (len(sinks), len(low_rank)))
            with checkpointed(self._model, once_more) if checkpoint else nullcontext():
                parts = [self._totals(row, len(requests), graph=row is rows[-1]) for row in rows]
                likelihoods = torch.stack([part.detach() for part in parts]).sum(0).cpu().requires_grad_()
                value = objective(likelihoods)
                (slopes,) = torch.autograd.grad(value, likelihoods)
                _backward(parts.pop(), slopes)
                for row in rows[:-1]:
                    _backward(self._totals(row, len(requests)), slopes)
        return Differentiated(float(value.detach()), likelihoods.detach(), len(rows), checkpoint)

    def loglikelihoods(self, requests: Sequence[TokenPair]) -> Tensor:
        """Return log-likelihoods ``[requests]``, float64, on the CPU, as a tensor whose graph is that of one row.

        The weights that require a gradient are the caller's choice; layers are not checkpointed, and gradients of all
        weights are whole at the end.

        Raises:
            UnshareableError: As `run`.
            ScoringError: As `run`.
        """
        with shared_attention(self._model):
            (row,) = self._packed(requests, _MOST)
            return self._totals(row, len(requests), graph=torch.is_grad_enabled()).cpu()

    def _rows(self, requests: Sequence[TokenPair], kind: tuple[int, int]) -> tuple[list[PackedRow], bool]:
        """Return the rows of a minibatch, and whether layers are to keep their inputs only."""
        kept, slim = self._bytes_per_token(kind)
        room = (1 - _HEAD) * self._room
        if self._checkpoint is not True:
            rows = self._packed(requests, int(room / kept))
            if len(rows) == 1 or self._checkpoint is False:
                return rows, False
        rows = self._packed(requests, int(room / slim))
        return rows, bool(layers_of(self._model))

    def _packed(self, requests: Sequence[TokenPair], fits: int) -> list[PackedRow]:
        tokens = max(1, self._tokens or max(_LEAST, min(fits, _MOST)))
        try:
            plan = build_plan(requests, self._max_length, PassBudget(tokens, tokens, tokens, segments=True))
        except ValueError as error:
            raise ScoringError(f"backward: {error}") from error
        return pack(plan, tokens)

    def _bytes_per_token(self, kind: tuple[int, int]) -> tuple[float, float]:
        """Return what is kept per token, by all layers, and by one layer and the inputs of the others; measured once.

        Args:
            kind: How many gradients of either sort are wanted.
        """
        if kind not in self._measured:
            tokens = np.arange(_PROBE, dtype=np.int64) % self._model.get_input_embeddings().num_embeddings
            (row,) = self._packed([TokenPair(tuple(tokens[:-1].tolist()), tuple(tokens[-1:].tolist()))], _MOST)
            counted: list[int] = []
            with torch.enable_grad(), saved_bytes(self._model, counted):
                self._read(row)
            self._measured[kind] = counted[0] / len(row.ids)
        kept = max(1.0, self._measured[kind])
        return kept, min(kept, hidden_bytes(self._model) + kept / max(1, len(layers_of(self._model))))

    def _totals(self, row: PackedRow, count: int, *, graph: bool = True) -> Tensor:
        """Return what a row adds to the log-likelihoods of `count` requests, float64."""
        request = torch.from_numpy(row.targets.request).to(self._device)
        with torch.set_grad_enabled(graph):
            likelihood = self._read(row)
            return torch.zeros(count, dtype=torch.float64, device=self._device).index_add(
                0, request, likelihood.double()
            )

    def _read(self, row: PackedRow) -> Tensor:
        """Run a row and return the log-probability of each of its targets."""
        model, device, targets = self._model, self._device, row.targets
        ids, positions, needed, *read = (
            torch.from_numpy(array).to(device)
            for array in (row.ids, row.positions, row.needed, targets.row, targets.token)
        )
        least = MIN_SEGMENT if device.type == "cpu" else ROW
        state = AttentionState(int(row.positions.max()) + 1, parts=row.parts(model.dtype, device, least))
        head = model.get_output_embeddings()
        with _needed_only(head, needed, few=self._plain_head) as hidden, using(state):
            logits = model(input_ids=ids[None], position_ids=positions[None], use_cache=False).logits
        if not state.layers_seen:
            raise UnshareableError("its attention does not go through transformers' attention interface")
        if not self._plain_head:
            return likelihood_of_logits(logits[0], Readings(*read))
        size = len(row.needed) * head.out_features * max(4, model.dtype.itemsize)
        keep = size <= _HEAD * self._room
        return token_likelihood(hidden[0], head.weight, head.bias, Readings(*read), keep=keep)


def _has_plain_head(model: Any, device: torch.device) -> bool:
    """Return whether logits are what the output layer gives, and nothing is done to them after it."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        return False
    with torch.no_grad(), _needed_only(head, torch.arange(4, device=device), few=False) as hidden:
        logits = model(input_ids=torch.arange(8, device=device)[None], use_cache=False).logits
        return torch.equal(logits[0].float(), head(hidden[0]).float())


@contextmanager
def _needed_only(head: nn.Module, needed: Tensor, *, few: bool) -> Iterator[list[Tensor]]:
    """Inside, note the inputs ``[N, D]`` of the output layer at some places, and give it these alone; one if `few`."""
    noted: list[Tensor] = []

    def keep(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        noted.append(args[0].reshape(-1, args[0].shape[-1])[needed])
        return (noted[0][None, :1] if few else noted[0][None], *args[1:])

    hook = head.register_forward_pre_hook(keep)
    try:
        yield noted
    finally:
        hook.remove()


def _backward(totals: Tensor, slopes: Tensor) -> None:
    """Run the backward pass of a row.

    Raises:
        ScoringError: Weights were written to since the forward pass.
    """
    if not totals.requires_grad:
        return
    try:
        torch.autograd.backward(totals, slopes.to(totals.device))
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise ScoringError(
            "backward: weights must stay as they are until the backward pass is over, got them written to; merge later"
        ) from error
