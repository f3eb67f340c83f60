"""What a long study costs outside merging and scoring: thousands of trials on made-up answers in a real store.

    python -m experiments.bench.load --sampler tpe --trials 5000
    python -m experiments.bench.load --sampler random --store postgresql://me@host/db --no-mlflow

Shown per number of trials: what one trial takes outside merging and scoring (asking, telling, logging, looking around;
median of the last few), of that the sampler, the store and the mirrors, the process's memory and the store's size.
Then what opening the whole study takes: ``search`` on it, finished and with one more trial, and ``report``.
With ``--measured 30`` only the last 30 trials before each row are run; those before are added to the store as other
processes would add them, at random places with the answers of earlier ones.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import TrialState
from rich.console import Console
from sqlalchemy import insert

from experiments.bench.support.made_up import MadeUpResources, made_up_study
from experiments.bench.support.process import machine, run
from experiments.running.mirror import open_mirror
from experiments.running.observers import Everyone, MirrorObserver, StudyCopy
from experiments.running.plain import PlainRenderer
from experiments.study_folder.folder import FolderWriter, StudyFolder
from search.loop.leader import Leader
from search.results.observer import Observer, TrialRecord
from search.storage.answers import TABLE
from search.storage.store import Store, default_url
from search.workers.in_process import InProcess

MARKS = (100, 500, 1000, 2000, 5000, 5760, 10_000, 20_000)
LAST = 100
"""Trials behind a row at most."""


@dataclass
class Meter:
    """Times what happens between two scorings, and prints a row at every mark.

    Attributes:
        size: Returns the bytes of the store.
        grow: Adds trials after the row at a mark.
    """

    size: Callable[[], int]
    grow: Callable[[int], None]
    done: int = 0
    grown: int = 0
    rows: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    _parts: tuple[float, float] = (0.0, 0.0)
    _mirror: float = 0.0
    _left: tuple[float, float] | None = None

    def around(self, score: Callable[..., Any]) -> Callable[..., Any]:
        """Return the scoring with the clock stopped while it runs."""

        def scored(*given: Any, **more: Any) -> Any:
            if self._left is not None:
                wall, cpu = time.perf_counter() - self._left[0], time.process_time() - self._left[1]
                self._trial(wall, cpu)
            try:
                return score(*given, **more)
            finally:
                self._left = time.perf_counter(), time.process_time()

        return scored

    def heard(self, record: TrialRecord, seconds: float) -> None:
        """Take up what a record says, and what the mirrors took."""
        self._parts = record.parts.get("propose", 0.0), record.parts.get("log", 0.0)
        self._mirror = seconds
        self.done += record.kind == "trial"

    def _trial(self, wall: float, cpu: float) -> None:
        self.rows.append((wall, cpu, *self._parts, self._mirror))
        if self.done in MARKS and self.grown < self.done:
            self.grown = self.done
            middle = [1000 * median(column) for column in zip(*self.rows[-LAST:], strict=True)]
            cells = " | ".join(f"{value:.0f}" for value in middle)
            print(f"| {self.done} | {cells} | {_resident() >> 20} | {self.size() / 1e6:.1f} |", flush=True)
            self.rows.clear()
            self.grow(self.done)


@dataclass
class _Timed:
    inner: Observer
    meter: Meter

    def started(self, outlook: Any) -> None:
        self.inner.started(outlook)

    def scored(self, record: TrialRecord) -> None:
        began = time.perf_counter()
        self.inner.scored(record)
        self.meter.heard(record, time.perf_counter() - began)

    def finished(self, verdict: Any) -> None:
        self.inner.finished(verdict)


def run_study(settings: argparse.Namespace) -> None:
    """Run the study, or what is left of it, in this process."""
    study = made_up_study(settings.questions, trials=settings.trials, sampler=settings.sampler)
    folder = StudyFolder(settings.folder)
    folder.root.mkdir(parents=True, exist_ok=True)
    url = settings.store or default_url(folder.root)
    store, bench = Store(url, study), MadeUpResources(study, settings.questions)
    bench.use(store)
    with (folder.root / "log").open("a", encoding="utf-8") as log:
        console = Console(file=log, soft_wrap=True)
        observers: list[Observer] = [StudyCopy(study, folder), FolderWriter(folder), PlainRenderer(console)]
        if settings.mlflow:
            observers.append(
                MirrorObserver(open_mirror(study, folder, f"sqlite:///{folder.root / 'mlflow.db'}", console.print))
            )
        grow = lambda done: _grow(store, done, settings.measured, settings.trials)  # noqa: E731 - it stays here
        meter = Meter(lambda: size_of(store, folder.root), grow)
        if settings.again:
            began = time.perf_counter(), time.process_time()
            bench.scorer.score = _first(bench.scorer.score, began)  # type: ignore[method-assign]
        else:
            bench.scorer.score = meter.around(bench.scorer.score)  # type: ignore[method-assign]
        observer = _Timed(Everyone(observers), meter)
        with store.leading():
            pool = InProcess(lambda: bench.scorer)
            Leader(study, store, bench, pool, observer).run()  # type: ignore[arg-type]


def _grow(store: Store, done: int, measured: int | None, trials: int) -> None:
    """Add trials up to a few before the next mark."""
    upto = min((mark for mark in MARKS if done < mark <= trials), default=0)
    if measured is not None and upto - measured > done:
        grow(store, upto - measured - done)


def grow(store: Store, count: int) -> None:
    """Add trials to a store in one transaction, at random places with the answers of those that are there."""
    known = [trial for trial in store.finished() if trial.values]
    rng = np.random.default_rng(len(known))
    chosen = [known[place] for place in rng.integers(len(known), size=count)]
    records = [json.dumps(record) for _, record in store.records(chosen)]
    first, study = len(store.trials.get_trials(deepcopy=False)), store.trials._study_id
    facts = {"study_id": study, "state": TrialState.COMPLETE, "datetime_start": datetime.now(UTC).replace(tzinfo=None)}
    numbered = [
        {**facts, "datetime_complete": facts["datetime_start"], "number": first + i} for i in range(len(chosen))
    ]
    with store.trials._storage._backend.engine.begin() as connection:  # type: ignore[attr-defined]
        made = insert(models.TrialModel).returning(models.TrialModel.trial_id, sort_by_parameter_order=True)
        pairs = list(zip(connection.execute(made, numbered).scalars(), chosen, strict=True))
        kinds = {"value_type": models.TrialValueModel.TrialValueType.FINITE, "objective": 0}
        values = [{"trial_id": i, "value": trial.values[0], **kinds} for i, trial in pairs]
        connection.execute(insert(models.TrialValueModel), values)
        attributes = {
            models.TrialUserAttributeModel: [trial.user_attrs for trial in chosen],
            models.TrialSystemAttributeModel: [trial.system_attrs for trial in chosen],
        }
        for table, ours in attributes.items():
            texts = [
                {"trial_id": i, "key": key, "value_json": json.dumps(value)}
                for (i, _), one in zip(pairs, ours, strict=True)
                for key, value in one.items()
            ]
            if texts:
                connection.execute(insert(table), texts)
        connection.execute(
            insert(TABLE), [{"trial_id": i, "record": text} for (i, _), text in zip(pairs, records, strict=True)]
        )
        params = [
            {
                "trial_id": i,
                "param_name": name,
                "param_value": rng.uniform(held.low, held.high),
                "distribution_json": distribution_to_json(held),
            }
            for i, trial in pairs
            for name, held in trial.distributions.items()
        ]
        connection.execute(insert(models.TrialParamModel), params)


def _first(score: Callable[..., Any], began: tuple[float, float]) -> Callable[..., Any]:
    """Return a scoring that says when the first one began."""
    told = False

    def scored(*given: Any, **more: Any) -> Any:
        nonlocal told
        if not told:
            told = True
            wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
            print(f"first scoring after {wall:.1f} s, {cpu:.1f} s of CPU", flush=True)
        return score(*given, **more)

    return scored


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def size_of(store: Store, folder: Path) -> int:
    """Return the bytes of a store."""
    if store.url.startswith("sqlite:///"):
        return sum(file.stat().st_size for file in folder.glob("study.db*"))
    from sqlalchemy import text

    with store.trials._storage._backend.engine.connect() as connection:  # type: ignore[attr-defined]
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar() or 0)


def main() -> None:
    """Run the study in a process of its own, then open it again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--questions", type=int, default=200, help="search questions of each of the two tasks")
    parser.add_argument("--store", help="an Optuna storage URL; default: sqlite in the study's folder")
    parser.add_argument("--folder", type=Path, help="keep the study here")
    parser.add_argument("--mlflow", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--measured", type=int, help="trials that are run before each row; default: all of them")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.here:
        gc.freeze()  # as the commands do once all is imported
        run_study(settings)
        return
    print(machine())
    with tempfile.TemporaryDirectory(prefix="mergesearch-load-") as temporary:
        folder = settings.folder or Path(temporary, "study")
        mine = [sys.executable, "-m", "experiments.bench.load", *sys.argv[1:], "--folder", str(folder), "--here"]
        print("| trials | ms outside, wall | CPU | sampler | store | mirrors | resident MB | store MB |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
        subprocess.run(mine, check=True)
        more = [*mine, "--again", "--trials", str(settings.trials + 1)]
        ours = [sys.executable, "-m", "experiments"]
        for name, command in (
            ("search, finished", [*mine, "--again"]),
            ("search, one more trial", more),
            ("report", [*ours, "report", str(folder)]),
        ):
            log = Path(temporary, "log")
            cost = run(command, log=log)
            told = [line for line in log.read_text("utf-8").splitlines() if line.startswith("first scoring")]
            print(f"{name}: {cost.wall:.1f} s, {cost.cpu:.1f} s of CPU, {cost.resident >> 20} MB", *told, flush=True)


if __name__ == "__main__":
    main()
