"""Constraints: scores that a winner must keep, such as what the base model could do before it was merged."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema, model_validator

from search.errors import StudyError

BASE = "base"
_RELATIVE = re.compile(r"^\s*([0-9]*\.?[0-9]+)\s+of\s+(.+?)\s*$")


def _limit(value: float | str) -> float | str:
    if isinstance(value, str) and _RELATIVE.match(value) is None:
        raise ValueError(f"must be a number, or 'FACTOR of BASELINE' as in '0.98 of base', got {value!r}")
    return value


Limit = Annotated[
    float | Annotated[str, WithJsonSchema({"type": "string", "pattern": _RELATIVE.pattern})], AfterValidator(_limit)
]
"""A number, or a text such as ``0.98 of base``."""


class Bound(BaseModel):
    """The limits of one score."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    at_least: Limit | None = None
    """A number in the metric's own unit, or ``FACTOR of NAME`` with the name of a baseline or ``base``."""
    at_most: Limit | None = None
    """The same, for metrics where lower is better."""

    @model_validator(mode="after")
    def _something(self) -> "Bound":
        if self.at_least is None and self.at_most is None:
            raise ValueError("must have at_least or at_most")
        return self


@dataclass(frozen=True)
class Check:
    """One limit, and whether it is held.

    Attributes:
        score: ``TASK/METRIC``.
        limit: As the study file says it, such as ``at least 0.98 of base``.
        bound: The limit as a number.
        value: What was measured.
        shortfall: By how much the limit is missed; 0 where it is held.
    """

    score: str
    limit: str
    bound: float
    value: float
    shortfall: float


@dataclass(frozen=True)
class Guard:
    """All constraints of a study.

    Attributes:
        bounds: By ``TASK/METRIC``.
        base: Name of the baseline that the word ``base`` means, None where the families have no common base.
        place: Name of the study file, for messages.
    """

    bounds: Mapping[str, Bound]
    base: str | None
    place: str

    def check(self, scores: Mapping[str, float], references: Mapping[str, Mapping[str, float]]) -> tuple[Check, ...]:
        """Return every limit with what was measured.

        Args:
            scores: A candidate's scores by ``TASK/METRIC``.
            references: The baselines' scores on the same questions.

        Raises:
            StudyError: A score is not measured, or a baseline is not known.
        """
        found = []
        for score, bound in self.bounds.items():
            for word, text, sign in (("at least", bound.at_least, 1.0), ("at most", bound.at_most, -1.0)):
                if text is not None:
                    value = self._score(scores, score)
                    limit = self._number(text, score, references)
                    found.append(Check(score, f"{word} {text}", limit, value, max(0.0, sign * (limit - value))))
        return tuple(found)

    def violation(self, scores: Mapping[str, float], references: Mapping[str, Mapping[str, float]]) -> float:
        """Return the sum of all shortfalls; 0 for a feasible candidate."""
        return sum(check.shortfall for check in self.check(scores, references))

    def _score(self, scores: Mapping[str, float], score: str) -> float:
        if score not in scores:
            known = ", ".join(name for name in scores if name != "objective")
            raise StudyError(
                f"{self.place}: constraints.{score}: is not measured, got {known}; list its task in evaluate.tasks, "
                "with weight 0 if it is no part of the objective"
            )
        return scores[score]

    def _number(self, text: float | str, score: str, references: Mapping[str, Mapping[str, float]]) -> float:
        match = _RELATIVE.match(text) if isinstance(text, str) else None
        if match is None:
            return float(text)
        name = self.base if match[2] == BASE and BASE not in references else match[2]
        if name is None or name not in references:
            raise StudyError(
                f"{self.place}: constraints.{score}: '{match[2]}' must be one of {', '.join(references)}, or base "
                "where the families have one"
            )
        return float(match[1]) * self._score(references[name], score)
