"""Builds the requests of questions with lm-eval's own task code, few-shot examples never from scored questions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from evals.errors import DataError, EvalError, reason
from evals.prompts.requests import QuestionRequests
from evals.tasks.lm_eval_setup import LM_EVAL_SEEDS
from evals.tasks.loading import LoadedTask
from evals.tasks.metrics import GOLD_BITS, GOLD_PROB, Gold, gold_text, is_multiple_choice
from evals.tasks.sampling import Leaf, Question, content_hash


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


def build_leaf(
    loaded: LoadedTask,
    questions: Sequence[Question],
    apart: Sequence[Question],
    metrics: Literal["asked", "all"],
    prompting: Prompting,
) -> list[QuestionRequests]:
    """Return the questions of one leaf with their requests, in order.

    Args:
        loaded: The leaf.
        questions: Its questions, in order of split and place.
        apart: More questions that may not be few-shot examples.
        metrics: Whose requests are made: those of the spec's metric, or of all.
        prompting: How prompts are put together.

    Raises:
        DataError: A question is not what it was when it was drawn.
    """
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
            try:
                asked.append(_ask(loaded, question, doc, number, wanted, prompting))
            except EvalError:
                raise
            except Exception as error:  # lm-eval's templates are code: a row that they do not fit fails in any way
                raise DataError(
                    f"{loaded.name}: row {question.index + 1} of {question.split}: must fit the task's template, got "
                    f"{reason(error)[:200]}; mend or replace the row"
                ) from error
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
) -> QuestionRequests:
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
    return QuestionRequests(question, loaded, doc, own, gold, gold_request)


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
