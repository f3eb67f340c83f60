"""Processes of one study: the one that leads, and those that join it on this host or from another.

All are alike: each has its own model, asks the store for a trial, scores it and tells the store. On the CPU parents are
mapped, folded adapters from files in the study's folder, so that a host holds them once.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search.company import Company, Crew, Nobody
from search.errors import SearchError, StoreError
from search.hardware import device_of, share_cores
from search.interrupts import Pause, Say, silent
from search.locks import only_one
from search.loop.run import POLL, Run
from search.owners import stands_still
from search.patience import LONGEST, Patience, shown
from search.proposals.per_trial_sampler import make_proposal
from search.proposals.warm_start import read_warm_start
from search.results.outcome import Observer, Verdict
from search.scoring.resources import Bench
from search.storage.store import Store, default_url
from search.study.study import LoadedStudy

STEP = 1.0
"""Seconds between looks at a process that shall end."""


@dataclass(frozen=True)
class Place:
    """Where a process works.

    Attributes:
        folder: The study's folder.
        models_roots: Folders in which model names are looked up.
        device: Where the live model runs; ``cuda`` stands for all accelerators, one after the other.
        share: Number of processes on this host.
        number: Which of them this is, from 0.
    """

    folder: Path
    models_roots: Sequence[Path] = ()
    device: str = "cpu"
    share: int = 1
    number: int = 0

    def bench(self, study: LoadedStudy) -> Bench:
        """Return the bench of this process."""
        share_cores(self.share)
        return Bench(study, self.models_roots, device_of(self.device, self.number), self.folder, self.share)


@dataclass(frozen=True)
class Joining:
    """All that another process needs to join a study.

    Attributes:
        document: The study file.
        name: Its name, for messages.
        place: Where the process works.
    """

    document: Mapping[str, Any]
    name: str
    place: Place

    @classmethod
    def of(cls, study: LoadedStudy, place: Place) -> "Joining":
        """Return what a process needs to join a study, wherever it starts: paths are whole, the store is named."""
        document = study.file.model_dump(mode="json", exclude_unset=True)
        section = document["evaluate"]
        for key in ("data", "include_path"):
            if section.get(key) not in (None, "hub"):
                section[key] = str(Path(section[key]).resolve())
        roots = tuple(root.resolve() for root in place.models_roots)
        whole = replace(place, folder=place.folder.resolve(), models_roots=roots)
        return cls({**document, "store": url_of(study, place.folder)}, study.place, whole)

    def study(self) -> LoadedStudy:
        """Return the study."""
        return LoadedStudy(dict(self.document), place=self.name)


def url_of(study: LoadedStudy, folder: Path) -> str:
    """Return the URL of a study's store."""
    return study.file.store or default_url(folder)


def run_search(
    study: LoadedStudy,
    folder: Path,
    *,
    observer: Observer,
    models_roots: Sequence[Path] = (),
    device: str = "cpu",
    say: Say = silent,
    ray: str | None = None,
) -> Verdict:
    """Run a study, or what is left of it, to its verdict.

    Args:
        study: The study.
        folder: Its folder; made if missing.
        observer: Hears of everything that is scored.
        models_roots: Folders in which model names are looked up.
        device: Where the live model runs.
        say: Takes one line for a person.
        ray: Address of a Ray cluster that scores the trials, ``local`` to start one; None for processes of this host.

    Raises:
        StoreError: The store holds another study, or another process runs this one.
        StudyError: The sampler does not suit the space, or a warm start does not fit.
        SearchStoppedError: Candidates fail one after the other.
        KeyboardInterrupt: Ctrl-C; what was finished is kept.
        merge.errors.MergeError: A parent is missing or does not fit.
        evals.errors.EvalError: A task, a metric or the data are wrong.
    """
    count = study.file.search.workers
    place = Place(folder, tuple(models_roots), device, 1 if ray is not None else count)
    bench, warm = place.bench(study), None
    if not folder.exists():
        bench.check()
        warm = read_warm_start(study)
        make_proposal(study, warm, {}, seed=0)
    with only_one(folder), Pause(say) as pause:
        store = Store(url_of(study, folder), study, patience=_patience(url_of(study, folder), pause, say))
        if not store.claims.shared and (count > 1 or ray is not None):
            raise StoreError(f"store {store.url}: must be sqlite, journal or PostgreSQL to be shared by processes")
        bench.use(store)
        crew = _crew(Joining.of(study, place), ray, bench, say)
        with store.claims.leading(say):
            try:
                return Run(study, store, bench, observer, warm, Company(True, pause, say, crew)).to_the_end()
            finally:
                bench.tidy()


def _patience(url: str, pause: Pause, say: Say) -> Patience:
    return Patience(f"store {shown(url)}", say, pause.check, longest=LONGEST)


def _crew(joining: Joining, ray: str | None, bench: Bench, say: Say) -> Crew | None:
    if ray is not None:
        from search.ray_crew import RayCrew

        return RayCrew(joining, ray, int(joining.study().file.search.workers), say, bench.let_go)
    return LocalCrew(joining) if joining.place.share > 1 else None


def run_worker(
    joining: Joining,
    *,
    observer: Observer | None = None,
    say: Say = silent,
    ends: Callable[[], bool] | None = None,
) -> int | None:
    """Join a study that another process leads, until it gives out no more trials.

    Args:
        joining: The study and the place of this process.
        observer: Hears of what this process scores.
        say: Takes one line for a person.
        ends: Tells when to end early.

    Returns:
        How many this process scored; None where the study was at its end before, and no model was opened.

    Raises:
        StoreError: The store holds no such study.
        SearchStoppedError: The process that leads is gone, or candidates fail one after the other.
        KeyboardInterrupt: Ctrl-C, or ``ends``.
    """
    study = joining.study()
    with Pause(say, ends) as pause:
        url = url_of(study, joining.place.folder)
        patience = _patience(url, pause, say)
        store = Store(url, study, joining=True, patience=patience)
        if not store.claims.shared:
            raise StoreError(f"store {shown(url)}: must be sqlite, journal or PostgreSQL to be shared by processes")
        budget = _wait_for_trials(store, pause, say)
        if budget is None:
            return None
        study = study.with_search(trials=budget)
        store = Store(url, study, joining=True, patience=patience)
        bench = joining.place.bench(study)
        bench.use(store)
        with store.claims.beating():
            run = Run(study, store, bench, observer or Nobody(), company=Company(False, pause, say))
            return run.help_out()


def _wait_for_trials(store: Store, pause: Pause, say: Say) -> int | None:
    """Return the budget once trials are given out; None where the study is at its end."""
    told = False
    while (budget := store.claims.opened()) is None:
        pause.check()
        if store.claims.closed():
            return None
        store.claims.check_leader()
        if not told:
            say("waits for the baselines, which the process that leads the study scores")
        told = True
        time.sleep(POLL)
    return budget


@dataclass
class LocalCrew:
    """Processes of this host beside the one that leads.

    Attributes:
        joining: The study and the place of the one that leads, number 0.
    """

    joining: Joining
    _processes: list[Any] = field(default_factory=list)
    _stop: Any = None

    def start(self) -> None:
        """Start them."""
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        for number in range(1, self.joining.place.share):
            mine = replace(self.joining, place=replace(self.joining.place, number=number))
            process = context.Process(target=work, args=(mine, self._stop), daemon=True)
            process.start()
            self._processes.append(process)

    def suffices(self) -> bool:
        """Return False: the one that leads is one of them."""
        return False

    def stop(self) -> None:
        """Have them end after their block of questions, and wait for it."""
        if self._stop is not None:
            self._stop.set()
        try:
            for process in self._processes:
                _wait_for(process)
        except KeyboardInterrupt:
            for process in self._processes:
                process.kill()
            raise


def _wait_for(process: Any) -> None:
    """Wait for a process to end; one that was stopped by a signal is killed: its trial was given to another."""
    process.join(timeout=STEP)
    while process.is_alive():
        if stands_still(process.pid):
            process.kill()
        process.join(timeout=STEP)


def work(joining: Joining, stop: Any = None) -> None:
    """Work as one of a host's processes, until there is no more to do or the process that started it is gone."""
    parent = multiprocessing.parent_process()
    try:
        run_worker(joining, ends=lambda: (stop is not None and stop.is_set()) or not (parent and parent.is_alive()))
    except KeyboardInterrupt:
        sys.exit(130)
    except (SearchError, ValueError) as error:
        sys.stderr.write(f"worker {joining.place.number}: {error}\n")
        sys.exit(1)
