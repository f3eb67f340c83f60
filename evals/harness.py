"""Asks lm-eval's tasks: prompts are built once, and every candidate is scored on the same requests.

The steps are those of ``lm_eval.evaluator`` (0.4.12): contexts and requests per question in order, one call of the
model per type of request, filters, ``process_results``, aggregation. Values therefore equal lm-eval's.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from evals.aggregation import Aggregator
from evals.chat import chat_renderer
from evals.environment import LM_EVAL_SEEDS, kept_random_state
from evals.errors import DataError, ScoringError, TaskError
from evals.metrics import (
    GOLD_BITS,
    GOLD_PROB,
    Gold,
    bits_per_byte,
    gold_probability,
    gold_text,
    is_multiple_choice,
    metric_key,
)
from evals.questions import Leaf, Question, content_hash
from evals.results import Cost, Item, Results, results_of
from evals.tasks import LoadedTask


@dataclass(frozen=True)
class Prompting:
    """How prompts are put together.

    Attributes:
        chat_template: Renders messages to text; None for plain prompts.
        system_instruction: System prompt.
        fewshot_as_multiturn: Few-shot examples as turns of the conversation.
    """

    chat_template: Callable[..., str] | None = None
    system_instruction: str | None = None
    fewshot_as_multiturn: bool = False


@dataclass(frozen=True)
class _Asked:
    """One question with its requests: lm-eval's own, and one for the gold text where that is not among them."""

    question: Question
    loaded: LoadedTask
    doc: Any
    own: tuple[Any, ...]
    gold: Gold | None
    gold_request: Any | None

    @property
    def requests(self) -> tuple[Any, ...]:
        return self.own if self.gold_request is None else (*self.own, self.gold_request)


class Evaluation:
    """Tasks times questions, prompts built once, scored many times; made by `build`.

    Attributes:
        questions: What is asked, in the order of lm-eval.
    """

    def __init__(self, asked: Sequence[_Asked], tasks: Sequence[LoadedTask]) -> None:
        self._asked = tuple(asked)
        self.questions: tuple[Question, ...] = tuple(one.question for one in asked)
        self._aggregate = Aggregator(tasks, self.questions)

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

        Raises:
            DataError: A question is not what it was when it was drawn.
        """
        chat = chat_renderer(tokenizer) if apply_chat_template else None
        prompting = Prompting(chat, system_instruction, fewshot_as_multiturn)
        by_leaf, apart = _per_leaf(questions), _per_leaf(keep_apart)
        if strangers := set(by_leaf) - {loaded.name for loaded in tasks}:
            raise TaskError(f"questions: must belong to the loaded tasks, got {', '.join(sorted(strangers))}")
        asked: list[_Asked] = []
        with kept_random_state():
            for loaded in tasks:
                asked += _ask_leaf(loaded, sorted(by_leaf[loaded.name]), apart[loaded.name], metrics, prompting)
        return cls(asked, tasks)

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
        with kept_random_state():
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


def _per_leaf(questions: Sequence[Question]) -> defaultdict[str, list[Question]]:
    leaves: defaultdict[str, list[Question]] = defaultdict(list)
    for question in questions:
        leaves[question.task].append(question)
    return leaves


def _ask_leaf(
    loaded: LoadedTask,
    questions: Sequence[Question],
    apart: Sequence[Question],
    metrics: Literal["asked", "all"],
    prompting: Prompting,
) -> list[_Asked]:
    if not questions:
        return []
    leaf = Leaf.of(loaded)
    excluded = set()
    for question in (*questions, *apart):
        split = leaf.split(question.split)
        if question.index >= len(split.ids) or split.ids[question.index] != question.id:
            raise DataError(
                f"{question.task}: {question.split} row {question.index} must be question {question.id}, "
                "got another; restore the data that the questions were drawn from"
            )
        if split is not leaf.test:
            excluded.add(split.contents[question.index])
    wanted = loaded.metrics if metrics == "all" else (loaded.default_metric,)
    asked = []
    with _fewshot_pool_without(loaded.task, excluded):
        previous = None
        for number, question in enumerate(questions):
            if question.split != previous or loaded.spec.fewshot == "fixed":
                loaded.task.set_fewshot_seed(seed=LM_EVAL_SEEDS["fewshot"])
            previous = question.split
            doc = leaf.split(question.split).docs[question.index]
            asked.append(_ask(loaded, question, doc, number, wanted, prompting))
    return asked


@contextmanager
def _fewshot_pool_without(task: Any, excluded: set[str]) -> Iterator[None]:
    sampler = getattr(task, "sampler", None)
    pool = list(getattr(sampler, "df", None) or ()) if excluded and task.get_config("num_fewshot") else []
    kept = [doc for doc in pool if content_hash(task, doc) not in excluded]
    if sampler is None or len(kept) == len(pool):
        yield
        return
    if len(kept) <= int(task.get_config("num_fewshot")):
        raise DataError(
            f"{task.task_name}: must have more than {task.get_config('num_fewshot')} few-shot rows that are not "
            f"scored, got {len(kept)} of {len(pool)}; score fewer questions of that split"
        )
    sampler.replace_df(kept)
    try:
        yield
    finally:
        sampler.replace_df(pool)


def _ask(
    loaded: LoadedTask, question: Question, doc: Any, number: int, wanted: Sequence[str], prompting: Prompting
) -> _Asked:
    task = loaded.task
    shared = {"apply_chat_template": prompting.chat_template is not None, "chat_template": prompting.chat_template}
    context = task.fewshot_context(
        doc,
        num_fewshot=task.get_config("num_fewshot") or 0,
        system_instruction=prompting.system_instruction,
        fewshot_as_multiturn=prompting.fewshot_as_multiturn,
        gen_prefix=task.doc_to_prefix(doc),
        **shared,
    )
    gold = gold_text(task, doc) if {GOLD_BITS, GOLD_PROB} & set(loaded.metrics) else None
    meta = (task.task_name, number, task.get_config("repeats") or 1)
    own: tuple[Any, ...] = ()
    if is_multiple_choice(task) or set(wanted) - {GOLD_BITS}:
        made = task.construct_requests(doc=doc, ctx=context, metadata=meta, **shared)
        own = tuple(made) if isinstance(made, list) else (made,)
    gold_request = None
    if gold is not None and GOLD_BITS in wanted and not gold.choices:
        gold_request = _gold_request(loaded, doc, context, gold, (task.task_name, number, 1), prompting)
    elif gold is not None and set(wanted) == {GOLD_BITS} and own:
        own, gold_request = (), own[gold.choices[0]]
    return _Asked(question, loaded, doc, own, gold, gold_request)


def _gold_request(
    loaded: LoadedTask, doc: Any, context: str, gold: Gold, meta: tuple[str, int, int], prompting: Prompting
) -> Any:
    from lm_eval.api.instance import Instance

    delimiter = loaded.task.get_config("target_delimiter") or ""
    if prompting.chat_template is not None and not loaded.task.get_config("gen_prefix"):
        delimiter = ""
    return Instance(
        request_type="loglikelihood", doc=doc, arguments=(context, f"{delimiter}{gold.text}"), idx=0, metadata=meta
    )


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


def _by_leaf(asked: Sequence[_Asked]) -> list[list[_Asked]]:
    leaves: defaultdict[str, list[_Asked]] = defaultdict(list)
    for one in asked:
        leaves[one.loaded.name].append(one)
    return list(leaves.values())


def _measure(leaf: Sequence[_Asked]) -> list[Item]:
    """Apply filters and metrics to one leaf's answers."""
    loaded, task = leaf[0].loaded, leaf[0].loaded.task
    items = [item for one in leaf for item in _golden(one)]
    instances = [request for one in leaf for request in one.own]
    if not instances:
        return items
    task._instances = instances
    task.apply_filters()
    for name in instances[0].filtered_resps:
        for one in leaf:
            found = task.process_results(one.doc, [request.filtered_resps[name] for request in one.own])
            for metric, raw in found.items():
                key = metric_key(task, metric, name)
                items.append(Item(loaded.label, loaded.name, one.question.id, key, raw, 1.0))
    return items


def _golden(one: _Asked) -> list[Item]:
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
