"""The panel renderer: a live picture of a search on a terminal, or in a notebook that has ipywidgets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import RLock

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.running.places import Place
from experiments.running.progress import PHASES, Phase, Progress, duration, why
from experiments.running.renderer import AbstractRenderer
from experiments.running.verdict_screen import print_places, print_verdict
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Verdict

WIDEST = 120
"""Columns that the panel takes at most."""
ECHO = 2
"""Columns beside the panel for the ``^C`` that a terminal echoes: it must not begin another line."""
FIXED = 10
"""Lines of the panel that are always there: borders, phases, bar, titles, the objective, blank lines, the prompt's."""
MOST_TASKS = 8
"""Tasks that are shown at most beside the objective."""
MOST_TRIALS = 12
"""Trials that are shown at most."""
REFRESHES = 1.0
"""Pictures drawn per second while nothing happens, for the times to run on."""


@dataclass
class PanelRenderer(AbstractRenderer):
    """Draws one picture in place: phases, time left, the best against the best baseline, the last trials.

    It disappears when the search ends; a line that sums up, the verdict and the places remain.

    Attributes:
        console: The terminal.
        progress: How far the search is.
    """

    console: Console
    progress: Progress = field(default_factory=Progress)
    _study: str = field(default="", init=False)
    _live: Live | None = field(default=None, init=False)
    _lock: RLock = field(default_factory=RLock, init=False)

    def open(self, study: str) -> None:
        """Begin to draw."""
        self._study = study
        self._live = Live(
            get_renderable=self.picture, console=self.console, refresh_per_second=REFRESHES, transient=True
        )
        self._live.start(refresh=True)

    def started(self, outlook: Outlook) -> None:
        """Draw what is about to happen."""
        with self._lock:
            self.progress.start(outlook)

    def scored(self, record: TrialRecord) -> None:
        """Take up one scoring."""
        with self._lock:
            self.progress.add(record)
        if self._live is not None and self.progress.is_fresh(record):
            self._live.refresh()

    def finished(self, verdict: Verdict) -> None:
        """Draw on: files are being written."""

    def note(self, line: str) -> None:
        """Print a line above the picture."""
        self.console.print(Text(line))

    def close(self) -> None:
        """Take the picture away, give the cursor back, leave one line that sums up."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self.progress.outlook is not None:
            self.console.print(Text(self.progress.summary()))

    def conclude(self, verdict: Verdict, places: Sequence[Place], account: str) -> None:
        """Print the verdict and where things are."""
        self.console.print()
        print_verdict(self.console, verdict)
        print_places(self.console, places, account)

    def picture(self) -> RenderableType:
        """Return the panel as it is now, never higher than the terminal."""
        with self._lock:
            progress = self.progress
            if progress.outlook is None:
                return self._framed(Text("preparing: models, questions and prompts are read", "dim"))
            metrics = progress.outlook.metrics
            room = max(2, self.console.height - FIXED)
            tasks = min(len(metrics), MOST_TASKS, room - 1)
            rows = min(MOST_TRIALS, room - tasks)
            parts = [_phases(progress), _bar(progress), Text(), _scores(progress, list(metrics)[:tasks])]
            if progress.recent:
                parts += [Text(), _trials(progress, rows)]
            return self._framed(Group(*parts))

    def _framed(self, content: RenderableType) -> Panel:
        width, title = min(self.console.width - ECHO, WIDEST), Text(f"study {self._study}")
        return Panel(content, title=title, title_align="left", width=width, padding=(0, 1), border_style="dim")


def _phases(progress: Progress) -> RenderableType:
    """Return one line: every phase with its count, the present one in bold, the questions, the time so far."""
    line = Text(no_wrap=True, overflow="ellipsis")
    for phase in PHASES:
        done, total = progress.scored[phase], _total(progress, phase)
        count = f" {done}/{total}" if total else f" {done}" if done else ""
        style = "bold" if phase == progress.phase else "dim"
        line.append(f"{phase}{count}", style).append("   ")
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(line, Text(duration(progress.elapsed()), "dim"))
    return grid


def _total(progress: Progress, phase: Phase) -> int:
    """Return how many scorings a phase has; 0 where that is not known before it ends."""
    if progress.outlook is None or phase == "finalists":
        return 0
    baselines = len(progress.outlook.baselines)
    return {"baselines": baselines, "trials": progress.total, "test": baselines + 1}[phase]


def _bar(progress: Progress) -> RenderableType:
    """Return one line: a bar for the phase, how it is scored, the time left for the trials."""
    phase = progress.phase
    done, total = progress.scored[phase], _total(progress, phase)
    questions = {} if progress.outlook is None else progress.outlook.counts
    part = {"finalists": "selection", "test": "test"}.get(phase, "search")
    left = progress.seconds_left() if phase == "trials" else None
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(total=total or None, completed=min(done, total), pulse=not total)
    grid.add_row(
        bar, Text(f"{questions.get(part, 0)} {part} questions", "dim"), Text(f"{duration(left)} left" if left else "")
    )
    return grid


def _scores(progress: Progress, metrics: Sequence[str]) -> RenderableType:
    """Return the best trial against the best baseline, the objective first."""
    baseline, trial = progress.baseline, progress.best_trial
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
    for title, record in (("best baseline", baseline), ("best trial", trial)):
        name = title if record is None else record.name
        table.add_column(Text(name), justify="right", no_wrap=True, overflow="ellipsis", min_width=13, max_width=24)
    table.add_column("difference", justify="right", no_wrap=True)
    for metric in ("objective", *metrics):
        values = [None if record is None else record.metrics.get(metric) for record in (baseline, trial)]
        one, other = values
        difference = "" if one is None or other is None else f"{other - one:+.4f}"
        table.add_row(Text(metric), *("" if value is None else f"{value:.4f}" for value in values), difference)
    return table


def _trials(progress: Progress, rows: int) -> RenderableType:
    """Return the last trials, the newest first."""
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("trial", justify="right", no_wrap=True, min_width=5)
    table.add_column("family", no_wrap=True, overflow="ellipsis", min_width=8, max_width=24)
    table.add_column("objective", justify="right", no_wrap=True, min_width=9)
    table.add_column("seconds", justify="right", no_wrap=True, min_width=7)
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
    for record in list(progress.recent)[: -rows - 1 : -1]:
        value = f"{record.metrics['objective']:.4f}" if record.state == "complete" else ""
        seconds = f"{record.ended - record.started:.1f}"
        table.add_row(str(record.number), Text(record.family), value, seconds, _remark(progress, record))
    return table


def _remark(progress: Progress, record: TrialRecord) -> Text:
    if record.state == "complete":
        best = progress.best
        return Text("best so far", "green") if best is not None and best.number == record.number else Text()
    if record.state == "failed":
        return Text(f"failed: {why(record)}", "red")
    return Text(f"stopped {why(record).partition(',')[0]}", "dim")  # how far it was behind stands in the report
