"""Names of metrics, and the two likelihood metrics that every task with a gold text has.

    gold_prob          = exp(ll_gold) / sum_c exp(ll_c)              over the choices c of one question
    gold_bits_per_byte = -sum_q ll(gold_q) / ln 2 / sum_q bytes_q    over the questions q

ll is the total log-likelihood of a text after its prompt, in nats; bytes are UTF-8, without the delimiter before it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.errors import TaskError, nearest

GOLD_PROB = "gold_prob"
GOLD_BITS = "gold_bits_per_byte"


Step = tuple[Any, dict[str, Any]]
"""A step of a filter: name or function, and its options."""


def filters_of(task: Any) -> tuple[tuple[str, list[Step]], ...]:
    """Return name and steps of each of a task's filters, in lm-eval's order; without any, the first answer is taken."""
    listed = task.get_config("filter_list")
    if listed is None:
        return (("none", [("take_first", {})]),)
    return tuple((item["name"], [_step(step) for step in item["filter"]]) for item in listed)


def _step(document: Mapping[str, Any]) -> Step:
    return document["function"], {key: value for key, value in document.items() if key != "function"}


def filter_names(task: Any) -> tuple[str, ...]:
    """Return the names of a task's filters, in lm-eval's order."""
    return tuple(name for name, _ in filters_of(task)) or ("none",)


def metric_key(task: Any, metric: str, filter_name: str) -> str:
    """Return ``metric``, with ``/filter`` behind it when the task has several filters."""
    return metric if len(filter_names(task)) == 1 else f"{metric}/{filter_name}"


def metric_names(task: Any) -> tuple[str, ...]:
    """Return every metric that can be computed for `task`, lm-eval's own first."""
    own = [metric_key(task, metric, name) for metric in task.higher_is_better() for name in filter_names(task)]
    golden = [GOLD_PROB] if is_multiple_choice(task) else []
    return (*own, *golden, *([GOLD_BITS] if has_gold_text(task) else []))


def canonical_metric(asked: str, known: Sequence[str], place: str) -> str:
    """Return the name in `known` that `asked` means.

    lm-eval's own form ``metric,filter`` is understood; a metric without its filter means the first filter.

    Raises:
        TaskError: When it means none.
    """
    name = asked.replace(",", "/")
    options = [name, name.removesuffix("/none"), *(other for other in known if other.split("/")[0] == name)]
    if "/" in name:
        options.append(name.split("/")[0])
    for option in options:
        if option in known:
            return option
    raise TaskError(f"{place}: must be one of {', '.join(known)}, got {asked!r}{nearest(asked, known)}")


def directions(task: Any, names: Sequence[str]) -> dict[str, bool]:
    """Return for each metric whether higher is better."""
    own = task.higher_is_better()
    return {name: name != GOLD_BITS and bool(own.get(name.split("/")[0], True)) for name in names}


def is_multiple_choice(task: Any) -> bool:
    """Tell whether the task compares the likelihoods of choices."""
    return bool(task.OUTPUT_TYPE == "multiple_choice")


def has_gold_text(task: Any) -> bool:
    """Tell from the first question whether the task has a gold text."""
    docs = task.eval_docs
    return len(docs) > 0 and gold_text(task, docs[0]) is not None


@dataclass(frozen=True)
class Gold:
    """The right answer of one question.

    Attributes:
        text: Its text, without the delimiter.
        choices: Places of the right choices among the task's requests; empty for a task without choices.
    """

    text: str
    choices: tuple[int, ...]


def gold_text(task: Any, doc: Any) -> Gold | None:
    """Return the right answer of a question as lm-eval shows it in a few-shot example, or None."""
    if task.OUTPUT_TYPE not in {"multiple_choice", "generate_until", "loglikelihood"}:
        return None
    target = task.doc_to_target(doc)
    if is_multiple_choice(task):
        return _gold_choice(task, doc, target)
    if isinstance(target, list) and target:
        target = target[0]
    if isinstance(target, int) and task.get_config("doc_to_choice") is not None:
        target = task.doc_to_choice(doc)[target]
    return Gold(target, ()) if isinstance(target, str) and target.strip() else None


def _gold_choice(task: Any, doc: Any, target: Any) -> Gold | None:
    choices = task.doc_to_choice(doc)
    if task.multiple_input:
        place = task.doc_to_text(doc)
        return Gold(str(target), (place,)) if isinstance(place, int) and 0 <= place < len(choices) else None
    listed = target if isinstance(target, list) else [target]
    places = [choices.index(item) if isinstance(item, str) and item in choices else item for item in listed]
    right = tuple(item for item in places if isinstance(item, int) and 0 <= item < len(choices))
    return Gold(choices[right[0]], right) if right else None


def gold_probability(likelihoods: Sequence[float], right: Sequence[int]) -> float:
    """Return the share of the right choices in the probability of all choices."""
    logits = np.asarray(likelihoods, dtype=np.float64)
    shares = np.exp(logits - logits.max())
    return float(shares[list(right)].sum() / shares.sum())


def bits_per_byte(likelihood: float, n_bytes: int) -> float:
    """Return the bits that a text of log-likelihood `likelihood` costs per byte of it."""
    return -likelihood / math.log(2) / n_bytes
