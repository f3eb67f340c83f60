"""Who takes part in a search: this process and its role, and the crew that it may start beside itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from search.interrupts import Pause, Say, silent
from search.results.outcome import Outlook, TrialRecord, Verdict
from search.storage.store import Store


class Crew(Protocol):
    """Processes that score trials beside the one that leads."""

    def start(self) -> None:
        """Start them."""

    def suffices(self) -> bool:
        """Tell whether the leader shall score nothing itself while the trials last."""

    def stop(self) -> None:
        """Have them end after their block of questions, and wait for it; again after Ctrl-C: end at once."""


@dataclass(frozen=True)
class Company:
    """What a run knows of the others.

    Attributes:
        leads: Whether this process leads: it scores baselines and finalists, and tells of everything.
        pause: Ends a search between two blocks of questions.
        say: Takes one line for a person.
        crew: What it starts beside itself.
    """

    leads: bool = True
    pause: Pause = field(default_factory=Pause)
    say: Say = silent
    crew: Crew | None = None

    def takes_part(self) -> bool:
        """Tell whether this process scores trials."""
        return self.crew is None or not self.crew.suffices()

    @contextmanager
    def together(self, store: Store, budget: int) -> Iterator[None]:
        """Give out trials while it is entered, to the crew and whoever else joins."""
        store.claims.open(budget)
        try:
            if self.crew is not None:
                self.crew.start()
            yield
        finally:
            store.claims.break_off()
            if self.crew is not None:
                self.crew.stop()


class Nobody:
    """An observer that hears nothing."""

    def started(self, outlook: Outlook) -> None:
        """Hear nothing."""

    def scored(self, record: TrialRecord) -> None:
        """Hear nothing."""

    def finished(self, verdict: Verdict) -> None:
        """Hear nothing."""
