"""The plain renderer: one line an event, for pipes, log files and terminals without a cursor."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from experiments.running.places import Place
from experiments.running.progress import RECENT, Progress, duration, shown_scores, why
from experiments.running.renderer import AbstractRenderer
from experiments.running.verdict_screen import print_places, print_verdict
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Verdict

SCORES = 4
"""Scores that stand beside the objective; a study of more tasks than that shows the objective alone."""


@dataclass
class PlainRenderer(AbstractRenderer):
    """Prints a line for each scoring, then the verdict and the places.

    Of an earlier run's trials only the last ones are printed again; all stand in the report.

    Attributes:
        console: Where to print.
        progress: How far the search is.
    """

    console: Console
    progress: Progress = field(default_factory=Progress)

    def open(self, study: str) -> None:
        """Show nothing yet."""

    def started(self, outlook: Outlook) -> None:
        """Print what is about to happen."""
        self.progress.start(outlook)
        counts = outlook.counts
        again = f", {outlook.done} of them done by an earlier run" if outlook.done else ""
        self.note(
            f"study {outlook.study}: {outlook.trials} trials{again}; questions: {counts['search']} to search on, "
            f"{counts['selection']} to select on, {counts['test']} kept for the verdict"
        )

    def scored(self, record: TrialRecord) -> None:
        """Print one scoring."""
        self.progress.add(record)
        if record.kind == "trial" and record.part == "search":
            skipped = 0 if self.progress.outlook is None else max(0, self.progress.outlook.done - RECENT)
            if self.progress.trials == 1 and skipped:
                self.note(f"trial     {skipped} of an earlier run, not shown again")
            if self.progress.trials <= skipped:
                return
        self.note(self._line(record))

    def finished(self, verdict: Verdict) -> None:
        """Print nothing yet."""

    def note(self, line: str) -> None:
        """Print a line; it is never broken."""
        self.console.print(Text(line), soft_wrap=True)

    def conclude(self, verdict: Verdict, places: Sequence[Place], account: str) -> None:
        """Print the verdict and where things are."""
        self.console.print()
        print_verdict(self.console, verdict)
        print_places(self.console, places, account)

    def close(self) -> None:
        """Nothing is open."""

    def _line(self, record: TrialRecord) -> str:
        head = f"{record.kind:9s} {record.name:21s} {record.family:16s}"
        if record.state != "complete":
            return f"{head} {record.state}: {why(record)}"
        metrics = () if self.progress.outlook is None else self.progress.outlook.metrics
        scores = shown_scores(record.metrics, list(metrics) if len(metrics) <= SCORES else [])
        parts = [f"{head} {record.metrics['objective']:.4f}", scores]
        parts.append(f"{sum(record.parts.values()):.1f} s")
        if record.part != "search":
            parts.append(f"{record.part} questions")
        elif record.kind == "trial":
            left = self.progress.seconds_left()
            parts += [f"{duration(left)} left"] if left else []
            best = self.progress.best
            parts += ["best"] if best is not None and best.name == record.name else []
        return "  ".join(part for part in parts if part)
