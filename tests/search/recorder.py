"""An observer that keeps what it hears."""

from dataclasses import dataclass, field

from search.results.observer import NullObserver, Outlook, TrialRecord
from search.results.verdict import Verdict


@dataclass
class Recorder(NullObserver):
    """Keeps records and verdicts."""

    records: list[TrialRecord] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    outlook: Outlook | None = None
    lines: list[str] = field(default_factory=list)

    def started(self, outlook: Outlook) -> None:
        self.outlook = outlook

    def scored(self, record: TrialRecord) -> None:
        self.records.append(record)

    def finished(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    def trials(self) -> list[TrialRecord]:
        """Return the records of trials, in the order heard."""
        return [record for record in self.records if record.kind == "trial"]
