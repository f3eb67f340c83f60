"""The lm-eval model that scores a live transformers model whose weights change between calls.

What requests share is planned from their tokens alone (`prefix_tree`), once; only passes read weights. No key, value or
logit outlives a call, unless the caller says when the weights change: then the keys and values of prefixes stay until
it says so again. A model whose attention cannot be shared is scored by lm-eval's own HFLM instead.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from evals.engines.common.hflm import is_greedy, model_length, stock_scorer
from evals.engines.live.forward_passes import PassRunner, probe
from evals.engines.live.generation import STALL_SECONDS, Ending, Generator
from evals.engines.live.onednn_linear import fast_products
from evals.engines.live.pass_budget import budget_for, keep_freed_memory
from evals.engines.live.prefix_cache import PrefixCache, prefix_cache_bytes
from evals.engines.live.prefix_tree import build_plan
from evals.engines.live.scoring_plan import Plan
from evals.engines.live.shared_attention import UnshareableError, shared_attention
from evals.errors import ScoringError
from evals.prompts.chat_template import chat_renderer
from evals.prompts.token_cache import TokenPair, Tokens, windows
from evals.scores.results import Cost

_log = logging.getLogger(__name__)
_MAX_PLANS = 256
_T = TypeVar("_T")


class LiveScorer(TemplateLM):  # type: ignore[misc]  # lm-eval is untyped
    """Scores the weights that `model` holds at the time of the call.

    Log-likelihoods and greedy texts are those of lm-eval's HFLM up to rounding.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        max_length: Longest input; unset takes the model's.
        batch_tokens: Tokens of one forward pass; unset: what memory allows. Halved when memory runs out.
        rows: Texts that are generated at a time.
        share: False scores with HFLM.
        stall_seconds: Without a finished text for so long, generation is given up.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int | None = None,
        batch_tokens: int | None = None,
        rows: int = 16,
        share: bool = True,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        super().__init__()
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_length = max_length or model_length(model, tokenizer)
        self.max_gen_toks = 256
        self.fallback_reason: str | None = None if share else "sharing is switched off"
        self.cost = Cost()
        keep_freed_memory(self.device)
        self._budget = budget_for(model, self.device)
        if batch_tokens is not None:
            self._budget = self._budget.with_tokens(batch_tokens)
        self._rows, self._stall_seconds = rows, stall_seconds
        self._probed = False
        self._prefix_cache: PrefixCache | None = None
        self._hflm: Any = None
        self.tokens = Tokens(tokenizer)
        self._windows_by_text: dict[str, tuple[TokenPair, ...]] = {}
        self._plans: dict[tuple[int, ...], tuple[tuple[TokenPair, ...], Plan]] = {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(iter(self.model.parameters())).device
        return device

    @property
    def batch_size(self) -> int:
        """Tokens of one forward pass; lm-eval shows it."""
        return self._budget.tokens

    @property
    def eot_token_id(self) -> int:
        """End of text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands for an empty context: beginning of text, else end of text."""
        return self.tokens.prefix_token_id

    @property
    def tokenizer_name(self) -> str:
        """Name under which lm-eval would cache requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What has been planned so far."""
        return tuple(plan for _, plan in self._plans.values())

    def weights_changed(self) -> None:
        """Note that the model holds other weights; who says so once must say so after every change."""
        self._prefix_cache = PrefixCache(self._room)

    @cached_property
    def _room(self) -> int:
        return prefix_cache_bytes(self.device)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:  # noqa: FBT001, FBT002 - lm-eval's signature
        """Render messages as a prompt."""
        return chat_renderer(self.tokenizer)(chat_history, add_generation_prompt)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:  # noqa: FBT001 - lm-eval's signature
        """Return the tokens of a text; special tokens are the tokenizer's choice unless the text begins with them."""
        return self.tokens.encode(string, add_special_tokens)

    def take_tokens(self, tokens: Tokens) -> None:
        """Take over tokens that were made before; those of another tokenizer are left alone."""
        if tokens.tokenizer is self.tokenizer:
            self.tokens.update(tokens)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:  # noqa: ARG002, FBT001, FBT002 - lm-eval
        """Return log-likelihood and greediness of each continuation after its context.

        Raises:
            ScoringError: NaN logits, or memory for less than one row.
        """
        with self._clock():
            return self._run("loglikelihood", requests, self._score)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:  # noqa: ARG002, FBT001, FBT002 - lm-eval
        """Return the log-likelihood of each whole text, in windows of the longest input.

        Raises:
            ScoringError: As `loglikelihood`.
        """
        with self._clock():
            return self._run("loglikelihood_rolling", requests, self._score_whole)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:  # noqa: ARG002, FBT001, FBT002 - lm-eval
        """Return the greedy text after each context, cut at the first stop string.

        Raises:
            ScoringError: As `loglikelihood`.
        """
        with self._clock():
            kinds: dict[str, list[int]] = {}
            for i, request in enumerate(requests):
                kinds.setdefault(repr(sorted(request.args[1].items())), []).append(i)
            texts = [""] * len(requests)
            for places in kinds.values():
                alike = [requests[i] for i in places]
                for i, text in zip(places, self._generate(alike), strict=True):
                    texts[i] = text
            return texts

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """Add the wall-clock time inside to the cost."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.cost += Cost(seconds=time.perf_counter() - started)

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """Score ``(texts, context tokens, continuation tokens)``, lm-eval's inner interface."""
        return self._score_tokens(tuple(TokenPair(tuple(context), tuple(rest)) for _, context, rest in requests))

    def _run(self, kind: str, requests: Sequence[Any], share: Callable[[Sequence[Any]], list[_T]]) -> list[_T]:
        """Answer with a shared prefix; from the first model on that cannot, with HFLM."""
        if not requests:
            return []
        with torch.inference_mode():
            if self.fallback_reason is None:
                try:
                    if not self._probed:
                        probe(self.model)
                        self._probed = True
                    with shared_attention(self.model), fast_products(self.model):
                        return share(requests)
                except UnshareableError as error:
                    self.fallback_reason = str(error)
            return self._answer_with_hflm(kind, requests, self.fallback_reason)

    def _answer_with_hflm(self, kind: str, requests: Sequence[Any], reason: str) -> list[Any]:
        if self._hflm is None:
            _log.warning("scoring without sharing: %s", reason)
            self._hflm = stock_scorer(self.model, self.tokenizer, max_length=self.max_length)
        return list(getattr(self._hflm, kind)(list(requests), disable_tqdm=True))

    def _score(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        return self._score_tokens(tuple(self.tokens.pair(*request.args) for request in requests))

    def _score_whole(self, requests: Sequence[Any]) -> list[float]:
        cut = [self._windows(request.args[0]) for request in requests]
        scores = iter(self._score_tokens(tuple(window for listed in cut for window in listed)))
        return [sum(next(scores)[0] for _ in listed) for listed in cut]

    def _windows(self, text: str) -> tuple[TokenPair, ...]:
        if text not in self._windows_by_text:
            self._windows_by_text[text] = windows(self.tokens.text(text), self.prefix_token_id, self.max_length)
        return self._windows_by_text[text]

    def _score_tokens(self, requests: tuple[TokenPair, ...]) -> list[tuple[float, bool]]:
        if not requests:
            return []
        while True:
            plan, passes = self._planned(requests), PassRunner(self.model, self.device, self._prefix_cache)
            try:
                scores = passes.score(plan)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                self._halve(error)
                continue
            self.cost += Cost(plan.tokens_run - passes.reused, plan.tokens_full)
            return scores

    def _planned(self, requests: tuple[TokenPair, ...]) -> Plan:
        """Return the plan for `requests`; they are kept, and known again by identity without a look inside."""
        key = tuple(map(id, requests))
        if key not in self._plans:
            while len(self._plans) >= _MAX_PLANS:
                del self._plans[next(iter(self._plans))]
            try:
                self._plans[key] = requests, build_plan(requests, self.max_length, self._budget)
            except ValueError as error:
                raise ScoringError(f"scoring: {error}") from error
        return self._plans[key][1]

    def _halve(self, error: RuntimeError) -> None:
        """Make passes half as large after `error`, which is raised again when it is not about memory."""
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise error
        smaller = self._budget.halved()
        if smaller is None:
            raise ScoringError("scoring: must fit one row into memory, got none left; use a smaller model") from error
        _log.warning("memory ran out; %d tokens a pass from here on", smaller.tokens)
        self._budget, self._rows = smaller, max(1, self._rows // 2)
        self._plans.clear()
        self._room = 0
        if self._prefix_cache is not None:
            self._prefix_cache = PrefixCache(0)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _generate(self, requests: Sequence[Any]) -> list[str]:
        """Continue prompts that have the same settings."""
        settings = normalize_gen_kwargs(dict(requests[0].args[1]), self.max_gen_toks)
        if is_greedy(self.model, settings):
            return self._run("generate_until", requests, partial(self._generate_greedily, settings))
        return self._answer_with_hflm("generate_until", requests, "a task samples, searches beams or penalises")

    def _generate_greedily(self, settings: Mapping[str, Any], requests: Sequence[Any]) -> list[str]:
        longest = int(settings["max_gen_toks"])
        room = self.max_length - longest
        if room <= 0:
            raise ScoringError(f"generation: must leave room for a prompt, got {longest} of {self.max_length} tokens")
        stops = handle_stop_sequences(list(settings["until"]), eos=self.tokenizer.decode([self.eot_token_id]))
        prompts = [self.tokens.text(request.args[0])[-room:] for request in requests]
        ending = self._ending(stops, longest)
        while True:
            generator = Generator(
                PassRunner(self.model, self.device).logits,
                self.device,
                rows=self._rows,
                tokens=self._budget.tokens,
                min_prefix=self._budget.min_prefix,
                stall_seconds=self._stall_seconds,
            )
            try:
                generated = generator.run(prompts, ending)
                break
            except (torch.OutOfMemoryError, RuntimeError) as error:
                self._halve(error)
        kept = sum(map(len, generated))
        self.cost += Cost(generator.tokens_run, sum(map(len, prompts)) + kept, kept)
        return [self._text(tokens, stops) for tokens in generated]

    def _ending(self, stops: Sequence[str], longest: int) -> Ending:
        own = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        tokens = frozenset(own if isinstance(own, list | tuple) else [self.eot_token_id if own is None else own])
        window = 4 + max((len(self.tokens.stop(stop)) for stop in stops), default=0)
        return Ending(tokens, tuple(stop for stop in stops if stop), longest, self.tokenizer.decode, window)

    def _text(self, tokens: Sequence[int], stops: list[str]) -> str:
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return str(postprocess_generated_text(text, stops, None))
