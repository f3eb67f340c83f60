"""One scorer in the leader's own process."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from search.results.job import Job
from search.workers.pool import Outcome, Scorer


@dataclass
class InProcess:
    """A pool of one scorer, which works while the leader waits.

    Attributes:
        open_scorer: Opens the scorer, for the first job.
        check: Called between blocks of questions; it raises where the search was asked to end.
    """

    open_scorer: Callable[[], Scorer]
    check: Callable[[], None] = lambda: None
    size: int = 1
    _jobs: deque[Job] = field(default_factory=deque)

    def submit(self, job: Job) -> None:
        """Keep a job until ``next_finished``."""
        self._jobs.append(job)

    def next_finished(self) -> tuple[Job, Outcome]:
        """Score the oldest job."""
        self.check()
        job = self._jobs.popleft()
        return job, self.open_scorer().score(job, self.check)

    def close(self) -> None:
        """Forget the jobs."""
        self._jobs.clear()
