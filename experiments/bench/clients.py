"""Many processes that ask and tell on one store, early in a long study and late: what each ask and tell takes.

    python -m experiments.bench.clients --clients 32 --trials 5000
    python -m experiments.bench.clients --clients 32 --trials 5000 --store postgresql://me@host/db

Answers are made up, so that the processes do nothing but ask, tell and hear of each other's trials. They are measured
on the first trials and on the last; those between are added to the store as other processes would add them. Processor
time is of one process; the wall clock holds the wait for all others, as many as there are clients, and for the cores.
"""

import argparse
import multiprocessing
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from experiments.bench.load import grow, size_of
from experiments.bench.support.made_up import MadeUpBench, made_up_study
from experiments.bench.support.process import machine
from search.company import Company, Nobody
from search.loop.run import Run
from search.patience import LONGEST, Patience
from search.storage.store import Store, default_url

QUESTIONS = 200
Times = tuple[float, float]
"""Seconds by the wall clock, and of the processor."""


@dataclass
class Stopwatch:
    """Times calls, by name."""

    seen: dict[str, list[Times]] = field(default_factory=dict)

    def around(self, name: str, call: Any) -> Any:
        """Return the call, timed."""

        def timed(*given: Any, **more: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            result = call(*given, **more)
            if result is not None:
                taken = time.perf_counter() - wall, time.process_time() - cpu
                self.seen.setdefault(name, []).append(taken)
            return result

        return timed


def client(url: str, trials: int, together: Any, told: Any) -> None:
    """Join the study, begin when all have, and tell what asks and tells took."""
    study = made_up_study(QUESTIONS, trials=trials, sampler="random", race=False)
    patience = Patience(f"store {url}", longest=LONGEST)
    store, watch = Store(url, study, joining=True, patience=patience), Stopwatch()
    run = Run(study, store, MadeUpBench(study, QUESTIONS), Nobody(), company=Company(False))  # type: ignore[arg-type]
    together.wait()
    while store.claims.opened() is None:
        time.sleep(0.05)
    store.claims.claim = watch.around("ask", store.claims.claim)  # type: ignore[method-assign]
    store.tell = watch.around("tell", store.tell)  # type: ignore[method-assign]
    began = time.process_time()
    count = run.help_out()
    told.put((count, time.process_time() - began, watch.seen))


@dataclass
class Clients:
    """A crew of processes that only ask and tell.

    Attributes:
        count: How many.
        url: The store.
        trials: The budget.
    """

    count: int
    url: str
    trials: int
    told: list[Any] = field(default_factory=list)
    _processes: list[Any] = field(default_factory=list)
    _queue: Any = None
    _together: Any = None

    def start(self) -> None:
        """Start them, and wait until all have opened the store."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["experiments.bench.load"])
        self._queue, self._together = context.Queue(), context.Barrier(self.count + 1)
        for _ in range(self.count):
            words = (self.url, self.trials, self._together, self._queue)
            self._processes.append(context.Process(target=client, args=words, daemon=True))
            self._processes[-1].start()
        self._together.wait()

    def suffices(self) -> bool:
        """Leave nothing to the process that leads while they run."""
        return any(process.is_alive() for process in self._processes)

    def stop(self) -> None:
        """Hear what they tell, and wait for them."""
        self.told = [self._queue.get(timeout=600) for _ in self._processes]
        for process in self._processes:
            process.join()


def phase(url: str, trials: int, count: int) -> Clients:
    """Run the study up to so many trials."""
    study = made_up_study(QUESTIONS, trials=trials, sampler="random", race=False)
    store, bench = Store(url, study, patience=Patience("store", longest=LONGEST)), MadeUpBench(study, QUESTIONS)
    bench.use(store)
    crew = Clients(count, url, trials)
    with store.claims.leading():
        Run(study, store, bench, Nobody(), company=Company(crew=crew)).to_the_end()  # type: ignore[arg-type]
    return crew


def row(done: int, crew: Clients, seconds: float, size: int) -> str:
    """Return a row of the table."""
    cells = [str(done), f"{sum(count for count, _, _ in crew.told)}"]
    for name in ("ask", "tell"):
        every = [times for _, _, seen in crew.told for times in seen.get(name, ())]
        cells += [f"{1000 * median(column):.0f}" for column in zip(*every, strict=True)]
    whole = sum(cpu for _, cpu, _ in crew.told) / max(1, sum(count for count, _, _ in crew.told))
    return f"| {' | '.join([*cells, f'{1000 * whole:.0f}', f'{seconds:.0f}', f'{size / 1e6:.1f}'])} |"


def main() -> None:
    """Run both ends of a study and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--measured", type=int, default=320, help="trials at each end")
    parser.add_argument("--store", help="an Optuna storage URL; default: sqlite in a folder that goes away")
    settings = parser.parse_args()
    print(machine())
    print("| trials | measured | ask ms, wall | CPU | tell ms, wall | CPU | all CPU ms a trial | s | store MB |")
    print("| ---: " * 9 + "|", flush=True)
    with tempfile.TemporaryDirectory(prefix="mergesearch-clients-") as folder:
        url = settings.store or default_url(Path(folder))
        for trials in (settings.measured, settings.trials):
            store = Store(url, made_up_study(QUESTIONS, trials=trials, sampler="random", race=False))
            if store.finished():
                grow(store, trials - settings.measured - len(store.finished()))
            began = time.perf_counter()
            crew = phase(url, trials, settings.clients)
            print(row(trials, crew, time.perf_counter() - began, size_of(store, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
