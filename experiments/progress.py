"""Live progress of a search on the terminal: a line per candidate, a bar with the best so far and the time left."""

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from search.records import Outlook, TrialRecord, Verdict


@dataclass
class ConsoleProgress:
    """Tells a person how a search goes.

    Attributes:
        console: Where to print; the bar only shows on a terminal, the lines everywhere.
    """

    console: Console
    _bar: Progress | None = None
    _task: TaskID | None = None
    _best: tuple[float, str] = (float("-inf"), "none")
    _outlook: Outlook | None = None
    _began: float = field(default_factory=time.monotonic)
    _here: int = 0
    _done: int = 0
    _told: set[tuple[str, str]] = field(default_factory=set)

    def started(self, outlook: Outlook) -> None:
        """Print what is about to happen."""
        self._outlook = outlook
        self._began = time.monotonic()
        counts = outlook.counts
        again = f", {outlook.done} of them done by an earlier run" if outlook.done else ""
        self.console.print(
            f"study [bold]{escape(outlook.study)}[/]: {outlook.trials} trials{again}; questions: {counts['search']} to "
            f"search on, {counts['selection']} to select on, {counts['test']} kept for the verdict"
        )
        for note in outlook.notes:
            self.console.print(escape(note))
        columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
        self._bar = Progress(*columns, console=self.console, transient=True)
        self._task = self._bar.add_task("trials", total=outlook.trials, state="baselines first")
        self._bar.start()

    def scored(self, record: TrialRecord) -> None:
        """Print one candidate."""
        if record.kind == "trial":
            self._done += 1
            self._here += record.started >= time.time() - (time.monotonic() - self._began)
        value = record.metrics.get("objective")
        if value is not None and record.part == "search" and record.state == "complete" and value > self._best[0]:
            self._best = (value, record.name)
        self.console.print(self._line(record), highlight=False)
        if self._bar is not None and self._task is not None and record.part == "search":
            self._bar.update(self._task, completed=self._done, state=self._state())
        if self._bar is not None and self._task is not None and record.part != "search":
            self._bar.update(self._task, state=f"{record.part} questions")

    def finished(self, verdict: Verdict) -> None:
        """Take the bar away; the verdict is printed by the command."""
        del verdict
        self.close()

    def close(self) -> None:
        """Take the bar away, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _state(self) -> str:
        left = self._left()
        return f"best {self._best[0]:.4f} ({self._best[1]})" + (f", {_duration(left)} left" if left else "")

    def _left(self) -> float | None:
        if self._outlook is None or not self._here:
            return None
        per_trial = (time.monotonic() - self._began) / self._here
        return per_trial * max(0, self._outlook.trials - self._done)

    def _line(self, record: TrialRecord) -> str:
        head = f"{record.kind:9s} {escape(record.name):18s} {escape(record.family):16s}"
        if record.state == "failed":
            return f"{head} [red]failed[/]: {escape(record.reason or '')}"
        scores = "  ".join(f"{escape(k)} {v:.4f}" for k, v in record.metrics.items() if k != "objective")
        line = f"{head} {record.metrics['objective']:.4f}  [dim]{scores}[/]"
        if record.state == "stopped":
            return f"{line}  [yellow]stopped[/] [dim]{escape(record.reason or '')[len('stopped by the race ') :]}[/]"
        seconds = f"{sum(record.parts.values()):.1f} s"
        if record.part != "search":
            return f"{line}  [dim]{record.part} questions, {seconds}[/]"
        best = "  [green]best[/]" if self._best[1] == record.name else ""
        left = self._left() if record.kind == "trial" else None
        return f"{line}  [dim]{seconds}{f', {_duration(left)} left' if left else ''}[/]{best}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
