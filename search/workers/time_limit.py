"""How long a job may take before its scorer counts as hanging, judged by the jobs that are finished."""

from dataclasses import dataclass

from search.results.job import Job


@dataclass
class TimeLimit:
    """A multiple of the longest time per question so far; none before the first job is finished.

    Attributes:
        factor: So many times as long as the longest so far.
        least: Never less than so many seconds.
    """

    factor: float = 10.0
    least: float = 300.0
    _longest: float = 0.0

    def learn(self, job: Job, seconds: float) -> None:
        """Take a finished job into account."""
        self._longest = max(self._longest, seconds / max(1, job.questions))

    def exceeded(self, job: Job, seconds: float) -> bool:
        """Tell whether a job takes too long."""
        limit = self.factor * self._longest * max(1, job.questions)
        return self._longest > 0 and seconds > max(self.least, limit)
