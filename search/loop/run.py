"""Runs a study, or what is left of it: takes the lead, opens a pool of scorers, and lets the leader's loop go."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from search.hardware import device_of
from search.interrupts import Pause, Say, silent
from search.loop.leader import Leader
from search.proposals.per_trial_sampler import make_proposal
from search.proposals.warm_start import read_warm_start
from search.results.observer import Observer
from search.results.verdict import Verdict
from search.scoring.resources import SHARED_PARENTS, Resources
from search.scoring.setup import ScorerSetup
from search.storage.leadership import lock_files, locked_for
from search.storage.store import Store, default_url
from search.storage.waiting import IN_A_SEARCH, StorageWaiter, shown
from search.study.study import LoadedStudy
from search.workers.in_process import InProcess
from search.workers.local_pool import LocalPool
from search.workers.pool import OpenScorer, Pool
from search.workers.ray_pool import RayPool


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
    take_over: bool = False,
) -> Verdict:
    """Run a study, or what is left of it, to its verdict.

    Args:
        study: The study; its search section says how many scorers there shall be.
        folder: Its folder; made if missing.
        observer: Hears of everything that is scored.
        models_roots: Folders in which model names are looked up.
        device: Where live models run; ``cuda`` stands for all accelerators of a host, one after the other.
        say: Takes one line for a person.
        ray: Address of a Ray cluster that scores, ``local`` to start one; None for processes of this host.
        take_over: Lead also where another host's process does, as far as the store knows.

    Raises:
        StoreError: The store holds another study, or another process leads this one.
        StudyError: The sampler does not suit the space, or a warm start does not fit.
        SearchStoppedError: Candidates fail one after the other, or another process took the study over.
        KeyboardInterrupt: Ctrl-C; what was finished is kept.
        merge.errors.MergeError: A parent is missing or does not fit.
        evals.errors.EvalError: A task, a metric or the data are wrong.
    """
    scorers = _Scorers(study, folder, tuple(models_roots), device, ray)
    resources = Resources(study, models_roots, device_of(device, 0), folder)
    warm = None
    if not folder.exists():
        resources.check()
        warm = read_warm_start(study)
        make_proposal(study, warm, {}, seed=0)
    url = url_of(study, folder)
    with locked_for(lock_files(folder, url, study.file.study), "study"), Pause(say) as pause:
        store = Store(url, study, waiter=StorageWaiter(f"store {shown(url)}", say, pause.check, longest=IN_A_SEARCH))
        resources.use(store)
        with store.leading(take_over=take_over), scorers.pool(resources, store.url, pause, say) as pool:
            return Leader(study, store, resources, pool, observer, warm).run()


@dataclass(frozen=True)
class _Scorers:
    """What a pool of scorers is made from.

    Attributes:
        study: The study.
        folder: Its folder.
        models_roots: Folders in which model names are looked up.
        device: Where live models run.
        ray: Address of a Ray cluster; None for processes of this host.
    """

    study: LoadedStudy
    folder: Path
    models_roots: tuple[Path, ...]
    device: str
    ray: str | None

    @contextmanager
    def pool(self, resources: Resources, url: str, pause: Pause, say: Say) -> Iterator[Pool]:
        """Give the pool that the study asks for; no scorer is opened before there is something to score."""
        count = self.study.file.search.workers

        def on_this_host() -> ScorerSetup:
            pins, roots = resources.pin(f"store {url}"), self.models_roots
            return ScorerSetup.of(self.study, pins, self.folder, models_roots=roots, device=self.device, share=count)

        def on_ray(per_host: int, accelerated: bool) -> OpenScorer:  # noqa: FBT001 - what a pool calls
            setup = on_this_host()
            return replace(setup, share=per_host, device="cuda" if accelerated else setup.device)

        pool: Pool
        if self.ray is not None:
            pool = RayPool(on_ray, self.ray, count, pause.check, say)
        elif count > 1:
            pool = LocalPool(on_this_host, count, pause.check, say)
        else:
            pool = InProcess(lambda: resources.scorer, pause.check)
        try:
            yield pool
        finally:
            pool.close()
            shutil.rmtree(self.folder / SHARED_PARENTS, ignore_errors=True)
