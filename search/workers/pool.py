"""What the leader knows of its scorers: a pool with three verbs."""

from collections.abc import Callable
from typing import Protocol

from search.results.job import Job
from search.results.outcome import Failed, Scored

ATTEMPTS = 3
"""A job that ended so many scorers, or outran its time in them, failed."""
Outcome = Scored | Failed
"""What became of a job."""


class Scorer(Protocol):
    """Holds a live model and its prompts, and does one job at a time."""

    def score(self, job: Job, between: Callable[[], None] | None = None) -> Outcome:
        """Score a job.

        Args:
            job: The job.
            between: Called after every block of questions but the last; it may raise to end the scoring.
        """


OpenScorer = Callable[[int], Scorer]
"""Opens the scorer of a number, counted from 0 on each host; can be sent to another process."""


class Pool(Protocol):
    """Scorers, and the jobs that they have.

    Attributes:
        size: Number of scorers: with so many jobs in flight all are busy.
    """

    @property
    def size(self) -> int:
        """Return the number of scorers."""

    def submit(self, job: Job) -> None:
        """Hand a job to a scorer, now or as soon as one is free."""

    def next_finished(self) -> tuple[Job, Outcome]:
        """Wait for a job to finish, in no order, and return it with its outcome.

        Raises:
            KeyboardInterrupt: The search was asked to end.
            SearchError, merge.errors.MergeError, evals.errors.EvalError: A scorer cannot work at all.
        """

    def close(self) -> None:
        """End all scorers; jobs in flight are lost."""


def lost_too_often(job: Job, why: str) -> Failed:
    """Return the outcome of a job that no scorer survived."""
    return Failed(f"{job.name} ended {ATTEMPTS} scorers, the last one {why}", "scorer")
