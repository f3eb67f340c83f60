"""Asks lm-eval's tasks: prompts are built once, and every candidate is scored on the same requests.

The steps are those of ``lm_eval.evaluator`` (0.4.12): contexts and requests per question in order, one call of the
model per type of request, filters, ``process_results``, aggregation. Values therefore equal lm-eval's.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any, Literal, Protocol, runtime_checkable

from evals.cache.disk_cache import DiskCache
from evals.cache.fingerprint import tokenizer_key
from evals.errors import ScoringError, TaskError
from evals.prompts.building import Prompting, build_leaf
from evals.prompts.chat_template import chat_renderer
from evals.prompts.requests import QuestionRequests, requests_from_json, requests_to_json
from evals.prompts.token_cache import Tokens
from evals.scores.aggregation import Aggregator
from evals.scores.results import Cost, Item, Results, results_of
from evals.tasks.lm_eval_setup import lm_eval_random_state
from evals.tasks.loading import LoadedTask
from evals.tasks.metrics import (
    GOLD_BITS,
    GOLD_PROB,
    bits_per_byte,
    filters_of,
    gold_probability,
    metric_key,
)
from evals.tasks.sampling import Question


@runtime_checkable
class TakesTokens(Protocol):
    """A model that can be given tokens instead of making them."""

    def take_tokens(self, tokens: Tokens) -> None:
        """Take over tokens that were made before."""


class Evaluation:
    """Tasks times questions, prompts built once, scored many times; made by `build`.

    Attributes:
        questions: What is asked, in the order of lm-eval.
    """

    def __init__(
        self,
        asked: Sequence[QuestionRequests],
        tasks: Sequence[LoadedTask],
        tokens_by: Callable[[Any], Tokens | None] | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self._asked = tuple(asked)
        self._tasks = tuple(tasks)
        self._tokens_by = tokens_by
        self._tokens = tokens
        self.questions: tuple[Question, ...] = tuple(one.question for one in asked)
        self._aggregate = Aggregator(tasks, self.questions)

    @property
    def asked(self) -> tuple[QuestionRequests, ...]:
        """Return the questions with their requests, which hold the last model's answers."""
        return self._asked

    @classmethod
    def build(
        cls,
        tasks: Sequence[LoadedTask],
        questions: Sequence[Question],
        *,
        tokenizer: Any,
        metrics: Literal["asked", "all"] = "asked",
        apply_chat_template: bool = False,
        system_instruction: str | None = None,
        fewshot_as_multiturn: bool = False,
        keep_apart: Sequence[Question] = (),
        kept: DiskCache | None = None,
    ) -> "Evaluation":
        """Build the prompts of `questions`.

        A leaf's questions are built in order of split and place with lm-eval's few-shot seed, so that test
        questions get ``simple_evaluate``'s prompts for the same ``samples``. Questions of other splits are
        taken out of the pool of few-shot examples.

        Args:
            tasks: Loaded tasks; those without a question are not asked.
            questions: What to ask.
            tokenizer: Renders the chat template.
            metrics: ``asked`` makes only the requests that the specs' metrics need, ``all`` those of every metric.
            apply_chat_template: As lm-eval's flag.
            system_instruction: As lm-eval's flag.
            fewshot_as_multiturn: As lm-eval's flag.
            keep_apart: More questions that may not be few-shot examples.
            kept: Where prompts and tokens of an earlier start are, and where they go.

        Raises:
            DataError: A question is not what it was when it was drawn.
        """
        chat = chat_renderer(tokenizer) if apply_chat_template else None
        prompting = Prompting(chat, system_instruction, fewshot_as_multiturn)
        by_leaf, apart = _per_leaf(questions), _per_leaf(keep_apart)
        if unknown_leaves := set(by_leaf) - {loaded.name for loaded in tasks}:
            raise TaskError(f"questions: must belong to the loaded tasks, got {', '.join(sorted(unknown_leaves))}")

        def make() -> tuple[QuestionRequests, ...]:
            with lm_eval_random_state():
                leaves = [(loaded, sorted(by_leaf[loaded.name])) for loaded in tasks]
                return tuple(
                    one
                    for loaded, own in leaves
                    for one in build_leaf(loaded, own, apart[loaded.name], metrics, prompting)
                )

        renderer = tokenizer_key(tokenizer) if kept is not None and chat is not None else None
        used = [loaded for loaded in tasks if by_leaf[loaded.name]]
        unknown = any(loaded.fingerprint is None for loaded in used) or (chat is not None and renderer is None)
        if kept is None or unknown:
            return cls(make(), tasks)
        cache = kept
        flags = [metrics, renderer, system_instruction, fewshot_as_multiturn]
        key = [[_identity(loaded) for loaded in used], _sorted_rows(questions), _sorted_rows(keep_apart), flags]
        names = {loaded.name: loaded for loaded in tasks}
        asked = kept.remember("prompts", key, make, requests_to_json, lambda value: requests_from_json(value, names))
        built = cls(asked, tasks, lambda by: _tokens_of(asked, by, cache, key))
        return built.tokenised_by(tokenizer)

    def tokenised_by(self, tokenizer: Any) -> "Evaluation":
        """Return the same prompts with another tokenizer's tokens, from disk where prompts are kept there."""
        tokens = None if self._tokens_by is None else self._tokens_by(tokenizer)
        return Evaluation(self._asked, self._tasks, self._tokens_by, tokens)

    def run(self, lm: Any, only: Sequence[Question] | None = None) -> Results:
        """Score one candidate.

        Args:
            lm: An lm-eval model that holds the candidate's weights.
            only: A block of the questions; None for all.

        Raises:
            ScoringError: NaN log-likelihoods, or what the model raises itself.
        """
        started = time.perf_counter()
        before: Cost = getattr(lm, "cost", None) or Cost()
        chosen = self._asked
        if only is not None:
            wanted = set(only)
            chosen = tuple(one for one in self._asked if one.question in wanted)
        if self._tokens is not None and isinstance(lm, TakesTokens):
            lm.take_tokens(self._tokens)
        with lm_eval_random_state():
            _answer(lm, [request for one in chosen for request in one.requests])
            items = [item for leaf in _by_leaf(chosen) for item in _measure(leaf)]
            after: Cost = getattr(lm, "cost", None) or Cost()
            cost = Cost(
                after.tokens_run - before.tokens_run,
                after.tokens_full - before.tokens_full,
                after.tokens_generated - before.tokens_generated,
                time.perf_counter() - started,
            )
            return results_of(items, self._aggregate, cost)


def _identity(loaded: LoadedTask) -> list[str | None]:
    return [loaded.fingerprint, loaded.name, loaded.default_metric]


def _sorted_rows(questions: Sequence[Question]) -> list[tuple[object, ...]]:
    return [astuple(question) for question in sorted(questions)]


def _tokens_of(asked: Sequence[QuestionRequests], tokenizer: Any, kept: DiskCache, prompts: Any) -> Tokens | None:
    """Return the tokens of all requests; None for a tokenizer without a key of its own."""
    name = tokenizer_key(tokenizer)
    if name is None:
        return None

    def make() -> Tokens:
        tokens = Tokens(tokenizer)
        for request in (request for one in asked for request in one.requests):
            if request.request_type == "loglikelihood":
                tokens.pair(*request.args)
            else:
                tokens.text(request.args[0])
        return tokens

    return kept.remember(
        "tokens", [prompts, name], make, Tokens.to_json, lambda value: Tokens.from_json(tokenizer, value)
    )


def _per_leaf(questions: Sequence[Question]) -> defaultdict[str, list[Question]]:
    leaves: defaultdict[str, list[Question]] = defaultdict(list)
    for question in questions:
        leaves[question.task].append(question)
    return leaves


def _answer(lm: Any, requests: Sequence[Any]) -> None:
    """Send all requests of one type in one call, as lm-eval does, and put the answers into them."""
    by_type: defaultdict[str, list[Any]] = defaultdict(list)
    for request in requests:
        request.resps, request.filtered_resps = [], {}
        by_type[request.request_type] += [request] * request.repeats
    for kind, batch in by_type.items():
        for request, answer in zip(batch, getattr(lm, kind)(batch), strict=True):
            number = answer[0] if isinstance(answer, tuple) else answer
            if isinstance(number, float) and math.isnan(number):
                raise ScoringError(f"{request.task_name}: scores must be numbers, got nan; drop this candidate")
            request.resps.append(answer)


def _by_leaf(asked: Sequence[QuestionRequests]) -> list[list[QuestionRequests]]:
    leaves: defaultdict[str, list[QuestionRequests]] = defaultdict(list)
    for one in asked:
        leaves[one.loaded.name].append(one)
    return list(leaves.values())


def _measure(leaf: Sequence[QuestionRequests]) -> list[Item]:
    """Apply filters and metrics to one leaf's answers."""
    loaded, task = leaf[0].loaded, leaf[0].loaded.task
    items = [item for one in leaf for item in _golden(one)]
    from lm_eval.filters import build_filter_ensemble

    instances = [request for one in leaf for request in one.own]
    if not instances:
        return items
    for name, steps in filters_of(task):
        build_filter_ensemble(name, steps).apply(instances)
    for name in instances[0].filtered_resps:
        for one in leaf:
            found = task.process_results(one.doc, [request.filtered_resps[name] for request in one.own])
            for metric, raw in found.items():
                key = metric_key(task, metric, name)
                items.append(Item(loaded.label, loaded.name, one.question.id, key, raw, 1.0))
    return items


def _golden(one: QuestionRequests) -> list[Item]:
    """Return the likelihood metrics of one question, as far as its requests tell them."""
    if one.gold is None:
        return []
    place = (one.loaded.label, one.loaded.name, one.question.id)
    items = []
    likelihood = None if one.gold_request is None else one.gold_request.resps[0][0]
    if one.gold.choices and one.own:
        count = len(one.loaded.task.doc_to_choice(one.doc))
        totals = [request.resps[0][0] for request in one.own[:count]]
        items.append(Item(*place, GOLD_PROB, gold_probability(totals, one.gold.choices), 1.0))
        likelihood = totals[one.gold.choices[0]]
    size = len(one.gold.text.encode())
    if likelihood is not None and size:
        items.append(Item(*place, GOLD_BITS, bits_per_byte(likelihood, size), float(size)))
    return items
