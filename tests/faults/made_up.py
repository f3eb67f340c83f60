"""Studies on made-up answers, whose scorers may be processes of their own, for tests that kill them."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from search.loop.leader import Leader
from search.objective.objective import Objective, Term
from search.scoring.candidate_scorer import CandidateScorer
from search.storage.store import Store
from search.storage.waiting import IN_A_SEARCH, StorageWaiter
from search.study.study import LoadedStudy
from search.workers.in_process import InProcess
from search.workers.local_pool import LocalPool
from search.workers.pool import OpenScorer, Pool
from search.workers.time_limit import TimeLimit
from tests.faults.forks import context
from tests.search.fake import FakeResources, fake_study
from tests.search.loop.test_run import skilled
from tests.search.recorder import Recorder

ACC = Objective((Term("t", "acc", 1.0, True),))


def slow(seconds: float) -> Callable[..., Any]:
    """Return answers that take their time, a second for a hundred questions or so."""

    def answer(recipe: Any, seed: int, question: Any) -> Any:
        time.sleep(seconds)
        return skilled(recipe, seed, question)

    return answer


def resources_of(study: LoadedStudy, seconds: float = 0.0) -> Any:
    return FakeResources(study, ACC, slow(seconds) if seconds else skilled, (24, 24, 40))


def open_made_up(search: dict[str, Any], seconds: float, number: int) -> CandidateScorer:
    """Open a scorer on made-up answers; sent to another process by name."""
    scorer: CandidateScorer = resources_of(fake_study(search=search), seconds).scorer
    return scorer


def processes(
    count: int, search: dict[str, Any], seconds: float = 0.0, *, opens: OpenScorer | None = None, **more: Any
) -> LocalPool:
    """Return a pool of processes on made-up answers, or of scorers that a test opens."""
    return LocalPool(lambda: opens or partial(open_made_up, search, seconds), count, context=context(), **more)


def lead(
    url: str,
    search: dict[str, Any],
    pool: Pool | None = None,
    seconds: float = 0.0,
    heard: Recorder | None = None,
    *,
    take_over: bool = False,
) -> Recorder:
    """Run a made-up study to its end as the process that leads, in this process where no pool is given."""
    study, heard = fake_study(search=search), heard or Recorder()
    store = Store(url, study, waiter=StorageWaiter(f"store {url}", heard.lines.append, longest=IN_A_SEARCH))
    resources = resources_of(study, seconds)
    pool = pool or InProcess(lambda: resources.scorer)
    try:
        with store.leading(take_over=take_over):
            Leader(study, store, resources, pool, heard).run()
    finally:
        pool.close()
    return heard


def quick_limit() -> TimeLimit:
    """Return a limit that hanging made-up answers exceed soon."""
    return TimeLimit(factor=5.0, least=1.0)
