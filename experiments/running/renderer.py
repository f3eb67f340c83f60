"""What a renderer of a search does: an observer that also shows notes, the verdict and where things are."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from experiments.running.places import Place
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Verdict


class AbstractRenderer(ABC):
    """Shows a search to a person or a program. Called from one thread, in the order of the methods below."""

    @abstractmethod
    def open(self, study: str) -> None:
        """Show that a study is being prepared: models and questions are read."""

    @abstractmethod
    def started(self, outlook: Outlook) -> None:
        """Show what is about to happen."""

    @abstractmethod
    def scored(self, record: TrialRecord) -> None:
        """Show a baseline, trial or finalist that was scored now, or by an earlier run."""

    @abstractmethod
    def finished(self, verdict: Verdict) -> None:
        """Hear that scoring is over; the verdict is shown by `conclude`, when every file is written."""

    @abstractmethod
    def note(self, line: str) -> None:
        """Show one line of text, at any time."""

    @abstractmethod
    def close(self) -> None:
        """Leave the terminal as it was; called when the search ends, also by an error or Ctrl-C."""

    @abstractmethod
    def conclude(self, verdict: Verdict, places: Sequence[Place], account: str) -> None:
        """Show the verdict and where things are.

        Args:
            verdict: What the study found.
            places: What the study left where.
            account: One line: where the time of trials went.
        """
