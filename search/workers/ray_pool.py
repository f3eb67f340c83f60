"""Scorers as Ray actors, one per accelerator, or per core where a cluster has none; the only importer of ray.

Ray places the actors, starts lost ones again and repeats their jobs; nothing of that is ours. A job that takes too long
has its actor killed, so that Ray does the same.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.errors import StudyError
from search.interrupts import Say, silent
from search.results.job import Job
from search.workers.local_pool import POLL, sendable
from search.workers.pool import ATTEMPTS, OpenScorer, Outcome, Scorer, lost_too_often
from search.workers.time_limit import TimeLimit

LOCAL = "local"
"""Address that starts a cluster of this host."""


class ScorerActor:
    """A scorer as Ray sees it.

    Args:
        open_scorer: Opens the scorer, for the first job.
        number: Number of the scorer on its host.
        folder: The leader's working folder, taken where this host has it too.
    """

    def __init__(self, open_scorer: OpenScorer, number: int, folder: str) -> None:
        self._open = open_scorer
        self._number = number
        self._scorer: Scorer | None = None
        if Path(folder).is_dir():
            os.chdir(folder)

    def score(self, job: Job) -> Outcome | Exception:
        """Score a job; an error is a result, so that Ray does not repeat it."""
        try:
            self._scorer = self._scorer or self._open(self._number)
            return self._scorer.score(job)
        except Exception as error:  # noqa: BLE001 - whatever it is, the leader tells of it
            return sendable(error, self._number)

    def pid(self) -> int:
        """Return the number of its process."""
        return os.getpid()


@dataclass
class RayPool:
    """A pool of Ray actors.

    Attributes:
        prepare: Returns what opens a scorer in its actor, given how many a host has and whether each has a GPU.
        address: Of the cluster, ``auto`` for the one of this host; ``local`` starts one.
        wanted: Number of actors; 1 for as many as the cluster has accelerators, or cores.
        check: Called while waiting; it raises where the search was asked to end.
        say: Takes one line for a person.
        limit: How long a job may take.
    """

    prepare: Callable[[int, bool], OpenScorer]
    address: str
    wanted: int
    check: Callable[[], None] = lambda: None
    say: Say = silent
    limit: TimeLimit = field(default_factory=TimeLimit)
    actors: list[Any] = field(default_factory=list)
    _free: deque[Any] = field(default_factory=deque)
    _running: dict[Any, tuple[Job, Any, float]] = field(default_factory=dict)
    _ray: Any = None

    @property
    def size(self) -> int:
        """Return the number of actors; none before the first job."""
        return len(self.actors)

    def submit(self, job: Job) -> None:
        """Hand a job to an actor that has none; the first job starts them."""
        if self._ray is None:
            self._start()
        actor = self._free.popleft()
        self._running[actor.score.remote(job)] = job, actor, time.monotonic()

    def next_finished(self) -> tuple[Job, Outcome]:
        """Wait for a job to finish, and return it with its outcome."""
        while True:
            self.check()
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=POLL)
            if ready:
                return self._received(ready[0])
            for running, (job, actor, since) in self._running.items():
                if self.limit.exceeded(job, time.monotonic() - since):
                    self.say(f"a Ray actor is started again: {job.name} took too long")
                    self._running[running] = job, actor, time.monotonic()
                    self._ray.kill(actor, no_restart=False)

    def close(self) -> None:
        """End the actors, and leave the cluster, or end it if it was started here."""
        if self._ray is None:
            return
        for actor in self.actors:
            self._ray.kill(actor)
        self._ray.shutdown()
        self._ray, self.actors = None, []

    def _received(self, ready: Any) -> tuple[Job, Outcome]:
        job, actor, since = self._running.pop(ready)
        self._free.append(actor)
        try:
            outcome = self._ray.get(ready)
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return job, lost_too_often(job, f"with: {lines[0]}")
        if isinstance(outcome, Exception):
            raise outcome
        self.limit.learn(job, time.monotonic() - since)
        return job, outcome

    def _start(self) -> None:
        """Connect to the cluster, or start one, and start the actors.

        Raises:
            StudyError: Ray is not installed, or the cluster does not answer.
        """
        ray = _connected(self.address)
        nodes = max(1, sum(bool(node["Alive"]) for node in ray.nodes()))
        resources = ray.cluster_resources()
        accelerators = int(resources.get("GPU", 0))
        count = self.wanted if self.wanted > 1 else accelerators or int(resources.get("CPU", 1))
        opener = self.prepare(-(-count // nodes), accelerators > 0)
        actor = ray.remote(num_gpus=1 if accelerators else 0, num_cpus=1)(ScorerActor)
        restarting = actor.options(max_restarts=-1, max_task_retries=ATTEMPTS - 1)
        self.actors = [restarting.remote(opener, number, str(Path.cwd())) for number in range(count)]
        self._ray, self._free = ray, deque(self.actors)
        kind = "accelerator" if accelerators else "processor core"
        self.say(f"Ray: {count} actors on {nodes} hosts, one {kind} each")


def _connected(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == LOCAL:  # on a node of its own address Ray opens its ports to everybody; read when it is imported
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise StudyError("--ray: needs Ray, which is not installed; install mergesearch[ray]") from None
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise StudyError(f"--ray: {address}: must be a running cluster, or 'local': {error}") from None
    return ray
