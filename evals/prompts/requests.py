"""A question with the requests that a model is sent for it, and its form on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evals.tasks.loading import LoadedTask
from evals.tasks.metrics import Gold
from evals.tasks.sampling import Question


@dataclass(frozen=True)
class QuestionRequests:
    """One question with the requests that a model is sent for it.

    Attributes:
        question: The question.
        loaded: Its leaf task.
        doc: Its row.
        own: lm-eval's requests, which hold the last model's answers.
        gold: The right answer; None where the task has none.
        gold_request: The request for the likelihood of the right answer's text, where it is not among `own`.
    """

    question: Question
    loaded: LoadedTask
    doc: Any
    own: tuple[Any, ...]
    gold: Gold | None
    gold_request: Any | None

    @property
    def requests(self) -> tuple[Any, ...]:
        """Everything that is sent to the model."""
        return self.own if self.gold_request is None else (*self.own, self.gold_request)


def requests_to_json(asked: Sequence[QuestionRequests]) -> dict[str, Any]:
    """Return a JSON value that `requests_from_json` reads; a text that occurs several times stands there once.

    Raises:
        TypeError: A row or an argument is no JSON value.
    """
    texts: dict[str, int] = {}

    def packed(request: Any) -> list[Any]:
        values = [
            ["text", texts.setdefault(v, len(texts))] if isinstance(v, str) else ["value", v] for v in request.args
        ]
        return [request.request_type, values, request.idx, list(request.metadata)]

    listed = [
        {
            "question": list(asdict(one.question).values()),
            "doc": one.doc,
            "own": [packed(request) for request in one.own],
            "gold": None if one.gold is None else [one.gold.text, list(one.gold.choices)],
            "gold_request": None if one.gold_request is None else packed(one.gold_request),
        }
        for one in asked
    ]
    return {"texts": list(texts), "asked": listed}


def requests_from_json(value: Mapping[str, Any], loaded: Mapping[str, LoadedTask]) -> tuple[QuestionRequests, ...]:
    """Return what `requests_to_json` wrote, with the loaded task of each leaf."""
    from lm_eval.api.instance import Instance

    texts = value["texts"]

    def unpacked(packed: list[Any] | None, doc: Any) -> Any:
        if packed is None:
            return None
        kind, values, index, metadata = packed
        arguments = tuple(texts[v] if form == "text" else v for form, v in values)
        return Instance(request_type=kind, doc=doc, arguments=arguments, idx=index, metadata=tuple(metadata))

    made = []
    for entry in value["asked"]:
        question, doc = Question(*entry["question"]), entry["doc"]
        gold = None if entry["gold"] is None else Gold(entry["gold"][0], tuple(entry["gold"][1]))
        own = tuple(unpacked(request, doc) for request in entry["own"])
        made.append(
            QuestionRequests(question, loaded[question.task], doc, own, gold, unpacked(entry["gold_request"], doc))
        )
    return tuple(made)
