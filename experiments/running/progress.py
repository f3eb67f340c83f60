"""Live progress of a search on the terminal: a line per candidate, a bar with the best so far and the time left."""

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from search.results.outcome import Outlook, TrialRecord, Verdict

SHOWN = 20
"""Trials of an earlier run that are shown again, the last ones; all stand in the report."""
SCORES = 4
"""Scores that stand beside the objective; a study of more tasks than that shows the objective alone."""


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
    _done: int = 0
    _seconds: float = 0.0

    def started(self, outlook: Outlook) -> None:
        """Print what is about to happen."""
        self._outlook = outlook
        counts = outlook.counts
        again = f", {outlook.done} of them done by an earlier run" if outlook.done else ""
        self.console.print(
            f"study [bold]{escape(outlook.study)}[/]: {outlook.trials} trials{again}; questions: {counts['search']} to "
            f"search on, {counts['selection']} to select on, {counts['test']} kept for the verdict"
        )
        columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
        self._bar = Progress(*columns, console=self.console, transient=True)
        self._task = self._bar.add_task("trials", total=outlook.trials, state="baselines first")
        self._bar.start()

    def scored(self, record: TrialRecord) -> None:
        """Print one candidate."""
        if record.kind == "trial":
            self._done += 1
            self._seconds += record.ended - record.started
        value = record.metrics.get("objective")
        if value is not None and record.part == "search" and record.state == "complete" and value > self._best[0]:
            self._best = (value, record.name)
        if record.kind == "trial" and self._done == 1 and self._past:
            self.console.print(f"trial     {self._past} of an earlier run, not shown again", highlight=False)
        if record.kind == "trial" and self._done <= self._past:
            return
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

    @property
    def _past(self) -> int:
        """The number of an earlier run's trials that are not shown."""
        return 0 if self._outlook is None else max(0, self._outlook.done - SHOWN)

    def _state(self) -> str:
        left = self._left()
        return f"best {self._best[0]:.4f} ({self._best[1]})" + (f", {_duration(left)} left" if left else "")

    def _left(self) -> float | None:
        """Return the seconds that the remaining trials will take, going by the ones so far."""
        if self._outlook is None or not self._done:
            return None
        return self._seconds / self._done * max(0, self._outlook.trials - self._done)

    def _line(self, record: TrialRecord) -> str:
        head = f"{record.kind:9s} {escape(record.name):21s} {escape(record.family):16s}"
        if record.state == "failed":
            return f"{head} [red]failed[/]: {escape(record.reason or '')}"
        shown = self._outlook.metrics if self._outlook is not None and len(self._outlook.metrics) <= SCORES else ()
        scores = "  ".join(f"{escape(name)} {record.metrics[name]:.4f}" for name in shown if name in record.metrics)
        seconds = f"{sum(record.parts.values()):.1f} s"
        if record.state == "stopped":  # no scores: those of the most telling questions are not those of all
            stopped = (record.reason or "").removeprefix("stopped by the race ")
            return f"{head} [yellow]stopped[/] [dim]{escape(stopped)}  {seconds}[/]"
        line = f"{head} {record.metrics['objective']:.4f}  [dim]{scores}[/]"
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
