"""Turns what was scored into the plain records that observers hear of."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search.results.job import Job
from search.results.observer import TrialRecord
from search.results.outcome import Failed, Scored
from search.space.search_space import Candidate


class _Trial(TrialRecord):
    """A trial's record whose recipe is written as YAML when it is first asked for.

    Of the thousands that a long study goes through when it is opened, hardly any is.
    """

    _candidate: Candidate

    @classmethod
    def of(cls, candidate: Candidate, **facts: Any) -> "_Trial":
        """Return the record of a candidate."""
        made = object.__new__(cls)
        for name, value in {**facts, "_candidate": candidate}.items():
            object.__setattr__(made, name, value)  # as a frozen dataclass does itself
        return made

    @cached_property
    def recipe_yaml(self) -> str:
        """Return the plain recipe."""
        return self._candidate.yaml()


@dataclass(frozen=True)
class Reporter:
    """Makes the records of one study.

    Attributes:
        study: Name of the study.
        study_id: Digest of the study's identity.
    """

    study: str
    study_id: str

    def outside(self, job: Job, scored: Scored, times: Mapping[str, Any]) -> TrialRecord:
        """Return the record of a baseline, or of a finalist, which has a family."""
        recipe = job.plain()
        return TrialRecord(
            study=self.study,
            study_id=self.study_id,
            number=job.number,
            name=job.name,
            family=job.family,
            kind="finalist" if job.family else "baseline",
            params={},
            metrics=scored.metrics(),
            recipe_yaml=recipe.to_yaml(),
            state="complete",
            reason=None,
            started=times["started"],
            ended=times["ended"],
            parts=scored.seconds.as_dict(),
            part=job.part,
            results=scored.results,
        )

    def trial(
        self, name: str, number: int, candidate: Candidate, outcome: Scored | Failed, *, times: Mapping[str, Any]
    ) -> TrialRecord:
        """Return the record of a trial."""
        scored = outcome if isinstance(outcome, Scored) else None
        reason = outcome.reason if isinstance(outcome, Failed) else None
        if scored is not None and scored.stopped_after is not None:
            reason = f"stopped by the race after {scored.stopped_after} questions"
            if scored.behind is not None:
                reason += f", {scored.behind:.4f} behind the best on the same ones"
        return _Trial.of(
            candidate,
            study=self.study,
            study_id=self.study_id,
            number=number,
            name=name,
            family=candidate.family,
            kind="trial",
            params=dict(candidate.values),
            metrics={} if scored is None else scored.metrics(),
            state="failed" if scored is None else "complete" if scored.stopped_after is None else "stopped",
            reason=reason,
            started=times["started"],
            ended=times["ended"],
            parts={} if scored is None else scored.seconds.as_dict(),
            part="search",
            results=None if scored is None else scored.results,
        )
