"""What a long study costs outside merging and scoring: thousands of trials on made-up answers in a real store.

    python -m experiments.bench.load --sampler tpe --trials 5000
    python -m experiments.bench.load --sampler random --store postgresql://me@host/db --no-mlflow
    python -m experiments.bench.load --trials 5000 --measured 20 --no-mlflow --no-opening      (smallest form, minutes)

Shown per number of trials, as medians of the last few: what one trial takes outside merging and scoring by the wall
clock and in CPU time, and of the CPU time what asking, telling and mirroring take; then the process's memory and the
store's size. After that, what opening the whole study takes: ``search`` on it, finished and with one more trial, and
``report``. With ``--measured N`` only the last N trials before each row are run, each row in a process of its own;
those before are added to the store, at random points with the answers of earlier ones. There is no peer; the figures
are held against those of earlier versions, in CPU time.
"""

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeVar, cast

import optuna
from rich.console import Console

from evals.tasks.sampling import Question
from experiments.bench.support.made_up import MadeUpResources, made_up_study
from experiments.bench.support.process import machine, run
from experiments.bench.support.study_growth import grow, store_size
from experiments.running.mirror import open_mirror
from experiments.running.observers import Everyone, MirrorObserver, StudyCopy
from experiments.running.plain import PlainRenderer
from experiments.study_folder.folder import FolderWriter, StudyFolder
from search.loop.leader import Leader
from search.results.job import Job
from search.results.observer import Observer, Outlook, TrialRecord
from search.results.outcome import Failed, Scored
from search.results.verdict import Verdict
from search.scoring.resources import Resources
from search.storage.store import Store, default_url
from search.study.study import LoadedStudy
from search.workers.in_process import InProcess
from search.workers.pool import Outcome, Scorer

MARKS = (100, 500, 1000, 2000, 5000, 5760, 10_000, 20_000)
LAST = 100
"""Trials behind a row at most."""
PARTS = ("ask", "tell", "mirror")
T = TypeVar("T")


@dataclass
class Meter:
    """Adds up what happens between two scorings, and prints a row at every mark.

    Attributes:
        size: Returns the bytes of the store.
        marks: Numbers of trials after which a row is printed.
        finished: Number of finished trials.
        rows: Per trial: seconds by the wall clock, CPU seconds, and those of each part.
    """

    size: Callable[[], int]
    marks: Collection[int]
    finished: int = 0
    rows: list[tuple[float, ...]] = field(default_factory=list)
    _parts: dict[str, float] = field(default_factory=dict)
    _since: tuple[float, float] | None = None

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the CPU time of what happens inside to a part."""
        began = time.process_time()
        try:
            yield
        finally:
            self._parts[name] = self._parts.get(name, 0.0) + time.process_time() - began

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave out what happens inside, which is a scoring; end a row with it."""
        if self._since is not None:
            wall, cpu = time.perf_counter() - self._since[0], time.process_time() - self._since[1]
            self.rows.append((wall, cpu, *(self._parts.get(name, 0.0) for name in PARTS)))
            self.print_row()
        try:
            yield
        finally:
            self._parts = {}
            self._since = time.perf_counter(), time.process_time()

    def print_row(self) -> None:
        """Print the row of a mark that was reached and not printed yet."""
        if self.finished in self.marks and self.rows:
            middle = [1000 * median(column) for column in zip(*self.rows[-LAST:], strict=True)]
            cells = " | ".join(f"{value:.0f}" for value in middle)
            print(f"| {self.finished} | {cells} | {_resident() >> 20} | {self.size() / 1e6:.1f} |", flush=True)
            self.marks = [mark for mark in self.marks if mark > self.finished]


class TimedStore(Store):
    """A store whose asking and telling are timed."""

    def __init__(self, url: str, study: LoadedStudy, meter: Meter) -> None:
        super().__init__(url, study)
        self._meter = meter

    def ask(self, suggest: Callable[[optuna.Trial], T], in_flight: Collection[int] = ()) -> tuple[int, T]:
        """Return the number of the next trial, and its parameters."""
        with self._meter.part("ask"):
            return super().ask(suggest, in_flight)

    def tell(
        self,
        number: int,
        outcome: Scored | Failed,
        values: Sequence[float],
        facts: Mapping[str, Any],
        questions: Sequence[Question],
    ) -> None:
        """Finish a trial."""
        with self._meter.part("tell"):
            super().tell(number, outcome, values, facts, questions)


@dataclass
class TimedScorer:
    """A scorer whose time is left out; where a study is opened again, it says when the first job came."""

    inner: Scorer
    meter: Meter
    began: tuple[float, float] | None = None

    def score(self, job: Job, between: Callable[[], None] | None = None) -> Outcome:
        """Score a job."""
        if self.began is not None:
            wall, cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
            print(f"first scoring after {wall:.1f} s, {cpu:.1f} s of CPU", flush=True)
            self.began = None
        with self.meter.stopped():
            return self.inner.score(job, between)


@dataclass
class TimedObserver:
    """An observer whose time is added up."""

    inner: Observer
    meter: Meter

    def started(self, outlook: Outlook) -> None:
        """Pass on."""
        self.inner.started(outlook)

    def scored(self, record: TrialRecord) -> None:
        """Pass on."""
        with self.meter.part("mirror"):
            self.inner.scored(record)
        self.meter.finished += record.kind == "trial"

    def finished(self, verdict: Verdict) -> None:
        """Pass on."""
        self.inner.finished(verdict)


def run_study(settings: argparse.Namespace) -> None:
    """Run the study, or what is left of it, in this process."""
    began = (time.perf_counter(), time.process_time()) if settings.again else None
    study = made_up_study(settings.questions, trials=settings.trials, sampler=settings.sampler)
    folder = StudyFolder(settings.folder)
    folder.root.mkdir(parents=True, exist_ok=True)
    url = settings.store or default_url(folder.root)
    meter = Meter(lambda: store_size(url), () if settings.again else MARKS)
    store, resources = TimedStore(url, study, meter), MadeUpResources(study, settings.questions)
    resources.use(store)
    scorer = TimedScorer(resources.scorer, meter, began)
    with (folder.root / "log").open("a", encoding="utf-8") as log:
        console = Console(file=log, soft_wrap=True)
        observers: list[Observer] = [StudyCopy(study, folder), FolderWriter(folder), PlainRenderer(console)]
        if settings.mlflow:
            uri = f"sqlite:///{folder.root / 'mlflow.db'}"
            observers.append(MirrorObserver(open_mirror(study, folder, uri, console.print)))
        observer = TimedObserver(Everyone(observers), meter)
        with store.leading():
            pool = InProcess(lambda: scorer)
            Leader(study, store, cast("Resources", resources), pool, observer).run()
            meter.print_row()  # the finalists may have been scored before, so that nothing came after the last trial


def grow_study(settings: argparse.Namespace) -> None:
    """Add trials to the study's store, so that a few are left to be run."""
    study = made_up_study(settings.questions, trials=settings.trials, sampler=settings.sampler)
    url = settings.store or default_url(settings.folder)
    store = Store(url, study)
    wanted = settings.trials - settings.measured - len(store.finished())
    if wanted > 0:
        grow(url, store, wanted)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def run_all(settings: argparse.Namespace, command: list[str]) -> None:
    """Run the study in processes of its own, and print the table."""
    print("| trials | ms outside, wall | CPU | ask | tell | mirrors | resident MB | store MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    if settings.measured is None:
        subprocess.run(command, check=True)
        return
    for mark in [mark for mark in MARKS if mark <= settings.trials and (mark >= 1000 or mark == MARKS[0])]:
        more = ["--trials", str(mark)]
        if mark > MARKS[0]:
            subprocess.run([*command, *more, "--grow"], check=True)
        subprocess.run([*command, *more], check=True)


def open_again(settings: argparse.Namespace, command: list[str], folder: Path, log: Path) -> None:
    """Open the whole study again, and print what that takes."""
    more = [*command, "--again", "--trials", str(settings.trials + 1)]
    for name, words in (
        ("search, finished", [*command, "--again"]),
        ("search, one more trial", more),
        ("report", [sys.executable, "-m", "experiments", "report", str(folder)]),
    ):
        cost = run(words, log=log)
        lines = [line for line in log.read_text("utf-8").splitlines() if line.startswith("first scoring")]
        print(f"{name}: {cost.wall:.1f} s, {cost.cpu:.1f} s of CPU, {cost.resident >> 20} MB", *lines, flush=True)


def main() -> None:
    """Run the study in processes of its own, then open it again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--questions", type=int, default=200, help="search questions of each of the two tasks")
    parser.add_argument("--store", help="an Optuna storage URL; default: sqlite in the study's folder")
    parser.add_argument("--folder", type=Path, help="keep the study here")
    parser.add_argument("--mlflow", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--opening", action=argparse.BooleanOptionalAction, default=True, help="open it again")
    parser.add_argument("--measured", type=int, help="trials that are run before each row; default: all of them")
    for name in ("--here", "--again", "--grow"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.here:
        gc.freeze()  # as the commands do once all is imported
        (grow_study if settings.grow else run_study)(settings)
        return
    print(machine())
    with tempfile.TemporaryDirectory(prefix="mergesearch-load-") as temporary:
        folder = settings.folder or Path(temporary, "study")
        mine = [sys.executable, "-m", "experiments.bench.load", *sys.argv[1:], "--folder", str(folder), "--here"]
        run_all(settings, mine)
        if settings.opening:
            open_again(settings, mine, folder, Path(temporary, "log"))


if __name__ == "__main__":
    main()
