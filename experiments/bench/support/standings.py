"""The table of ``peers.py``: one row for each contender with one seed."""

from dataclasses import dataclass

from evals.scores.statistics import Interval
from experiments.bench.support.contenders import ContenderResult, ScoredRecipe

LOOP = "TPE, mergekit to disk, HFLM"


@dataclass(frozen=True)
class Row:
    """One contender with one seed.

    Attributes:
        seed: Seed of questions and proposals.
        name: The contender.
        outcome: What it found.
        named: The recipe that it names.
        test: Its objective on the test questions.
        difference: The same minus the loop's.
        apart: How far its search score is from what the judge gives the same recipe on the same questions.
    """

    seed: int
    name: str
    outcome: ContenderResult
    named: ScoredRecipe
    test: float
    difference: Interval
    apart: float

    @property
    def rate(self) -> float:
        """Candidates per hour of CPU time, from the start of the process."""
        return 3600 * self.outcome.candidates / self.outcome.spent

    @property
    def later_rate(self) -> float:
        """The same from the first candidate on."""
        return 3600 * self.outcome.candidates / (self.outcome.spent - self.outcome.begun)

    def line(self) -> str:
        """Return a line of the table."""
        far = f"{self.difference.estimate:+.4f} [{self.difference.low:+.4f}, {self.difference.high:+.4f}]"
        cells = (
            self.seed,
            self.name,
            f"{self.outcome.candidates} ({self.outcome.stopped})",
            f"{self.rate:.0f}",
            f"{self.later_rate:.0f}",
            f"{self.named.value:.4f}",
            f"{self.test:.4f}",
            "" if self.name == LOOP else far,
            f"{self.named.value - self.test:+.4f}",
        )
        return "| " + " | ".join(map(str, cells)) + " |"


HEAD = (
    "| seed | contender | candidates (stopped early) | per CPU hour | after the start | search score | test score "
    "| test score against the loop, 95 % | optimism |\n|---:|---|---:|---:|---:|---:|---:|---:|---:|"
)
