"""Studies on made-up answers in processes of their own, for tests that kill them."""

import time
from collections.abc import Callable
from typing import Any

from search.company import Company, Crew, Nobody
from search.interrupts import Pause
from search.loop.run import Run
from search.objective.objective import Objective, Term
from search.patience import LONGEST, Patience
from search.storage.store import Store
from search.study.study import LoadedStudy
from tests.faults.forks import context
from tests.search.fake import FakeBench, fake_study
from tests.search.recorder import Recorder
from tests.search.test_run import skilled

ACC = Objective((Term("t", "acc", 1.0, True),))


def slow(seconds: float) -> Callable[..., Any]:
    """Return answers that take their time, a second for a hundred questions or so."""

    def answer(recipe: Any, seed: int, question: Any) -> Any:
        time.sleep(seconds)
        return skilled(recipe, seed, question)

    return answer


def bench_of(study: LoadedStudy, seconds: float = 0.0) -> Any:
    return FakeBench(study, ACC, slow(seconds) if seconds else skilled, (24, 24, 40))


def lead(
    url: str, search: dict[str, Any], crew: Crew | None = None, seconds: float = 0.0, heard: Recorder | None = None
) -> Recorder:
    """Run a made-up study to its end as the process that leads."""
    study, heard = fake_study(search=search), heard or Recorder()
    store = Store(url, study, patience=Patience(f"store {url}", heard.lines.append, longest=LONGEST))
    company = Company(True, Pause(), heard.lines.append, crew)
    with store.claims.leading():
        Run(study, store, bench_of(study, seconds), heard, company=company).to_the_end()
    return heard


def help_out(url: str, search: dict[str, Any], seconds: float = 0.0, together: Any = None) -> None:
    """Join a made-up study until it gives out no more trials; begin when the others do."""
    study = fake_study(search=search)
    patience = Patience(f"store {url}", longest=LONGEST)
    while (store := Store(url, study, joining=True, patience=patience)).claims.opened() is None:
        time.sleep(0.02)
    if together is not None:
        together.wait(60)
    Run(study, store, bench_of(study, seconds), Nobody(), company=Company(False)).help_out()


class Helpers:
    """A crew of processes on made-up answers, which leave nothing to the one that leads."""

    def __init__(self, count: int, url: str, search: dict[str, Any], seconds: float = 0.0) -> None:
        self.arguments = (url, search, seconds)
        self.count = count
        self.processes: list[Any] = []
        self.together: Any = None

    def start(self) -> None:
        self.together = context().Barrier(self.count)
        for _ in range(self.count):
            process = context().Process(target=help_out, args=(*self.arguments, self.together), daemon=True)
            process.start()
            self.processes.append(process)

    def suffices(self) -> bool:
        return any(process.is_alive() for process in self.processes)

    def stop(self) -> None:
        for process in self.processes:
            process.join()
