"""What became of a candidate: scored, or failed."""

from dataclasses import dataclass
from typing import Literal

from evals.scores.results import Results

Part = Literal["search", "selection", "test"]
"""Which of the disjoint question sets."""


@dataclass(frozen=True)
class Seconds:
    """Where the time of a trial went.

    Attributes:
        propose: Asking the sampler.
        merge: Writing the candidate into the live model.
        score: Answering questions.
        log: Storing and mirroring.
    """

    propose: float = 0.0
    merge: float = 0.0
    score: float = 0.0
    log: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Return the parts by name."""
        return {"propose": self.propose, "merge": self.merge, "score": self.score, "log": self.log}


@dataclass(frozen=True)
class Scored:
    """A candidate that was scored.

    Attributes:
        results: Its answers and scores.
        value: Its objective on the questions it answered, larger is better.
        stopped_after: Number of questions after which the race stopped it; None when it answered all.
        seconds: Where the time went.
        values: Utility of each task that counts; empty where it was read back from a store.
        behind: By how much it was behind the candidate that stopped it, on the questions that it answered and in
            the metrics that were raced on; its own value there says little, since the most telling questions come
            first. None when it answered all.
    """

    results: Results
    value: float
    stopped_after: int | None = None
    seconds: Seconds = Seconds()
    values: tuple[float, ...] = ()
    behind: float | None = None

    def metrics(self) -> dict[str, float]:
        """Return the objective and every score by its name ``TASK/METRIC``."""
        return {"objective": self.value, **{name: score.value for name, score in self.results.scores.items()}}


@dataclass(frozen=True)
class Failed:
    """A candidate that could not be scored.

    Attributes:
        reason: One line.
        kind: Short name of the kind of failure; three of a kind in a row stop the search.
    """

    reason: str
    kind: str
