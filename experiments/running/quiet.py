"""The quiet renderer: the verdict alone; notes go to standard error."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text
from typing_extensions import override

from experiments.running.places import Place
from experiments.running.renderer import AbstractRenderer
from experiments.running.verdict_screen import print_verdict
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Verdict


@dataclass
class QuietRenderer(AbstractRenderer):
    """Prints the verdict and nothing else on standard output.

    Attributes:
        console: Where the verdict goes.
        errors: Where notes go, such as that the MLflow mirror is off.
    """

    console: Console
    errors: Console = field(default_factory=lambda: Console(stderr=True))

    def open(self, study: str) -> None:
        """Show nothing yet."""

    def started(self, outlook: Outlook) -> None:
        """Print nothing."""

    def scored(self, record: TrialRecord) -> None:
        """Print nothing."""

    def finished(self, verdict: Verdict) -> None:
        """Print nothing yet."""

    def note(self, line: str) -> None:
        """Print a line on standard error."""
        self.errors.print(Text(line), soft_wrap=True)

    @override
    def conclude(self, verdict: Verdict, places: Sequence[Place], account: str) -> None:
        """Print the verdict."""
        print_verdict(self.console, verdict)

    def close(self) -> None:
        """Nothing is open."""
