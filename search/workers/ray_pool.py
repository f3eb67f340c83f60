"""Scorers as Ray actors, one per accelerator, or per core where a cluster has none; the only importer of ray.

Ray places the actors and tells which are lost. A lost one is asked for anew and works again once Ray has room for it;
its job goes to whichever actor is free first, so that a host that is gone for good costs its jobs' time alone. A job
that takes too long has its actor killed, and goes the same way.
"""

import itertools
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.errors import SearchStoppedError, StudyError
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
    _new: Callable[[], Any] = lambda: None
    _free: deque[Any] = field(default_factory=deque)
    _waiting: deque[Job] = field(default_factory=deque)
    _running: dict[Any, tuple[Job, Any, float]] = field(default_factory=dict)
    _starting: dict[Any, Any] = field(default_factory=dict)
    _lost: Counter[int] = field(default_factory=Counter)
    _ray: Any = None

    @property
    def size(self) -> int:
        """Return the number of actors; none before the first job."""
        return len(self.actors)

    def submit(self, job: Job) -> None:
        """Hand a job to an actor as soon as one is free; the first job starts them."""
        if self._ray is None:
            self._start()
        self._waiting.append(job)
        self._assign()

    def next_finished(self) -> tuple[Job, Outcome]:
        """Wait for a job to finish, and return it with its outcome."""
        while True:
            self.check()
            ready, _ = self._ray.wait([*self._running, *self._starting], num_returns=1, timeout=POLL)
            finished = self._received(ready[0]) if ready else None
            self._assign()
            if finished is not None:
                return finished
            for job, actor, since in self._running.values():
                if self.limit.exceeded(job, time.monotonic() - since):
                    self._ray.kill(actor)

    def close(self) -> None:
        """End the actors, and leave the cluster, or end it if it was started here."""
        if self._ray is None:
            return
        for actor in self.actors:
            self._ray.kill(actor)
        self._ray.shutdown()
        self._ray, self.actors = None, []

    def _assign(self) -> None:
        """Give waiting jobs to free actors."""
        while self._waiting and self._free:
            job, actor = self._waiting.popleft(), self._free.popleft()
            self._running[actor.score.remote(job)] = job, actor, time.monotonic()

    def _received(self, ready: Any) -> tuple[Job, Outcome] | None:
        """Take what an actor returned: a finished job, or None where it only started, or was lost."""
        job, actor, since = self._running.pop(ready, (None, self._starting.pop(ready, None), 0.0))
        try:
            outcome = self._ray.get(ready)
        except self._ray.exceptions.RayError as error:
            return self._replace(actor, job, error)
        self._free.append(actor)
        if job is None:
            return None
        if isinstance(outcome, Exception):
            raise outcome
        self.limit.learn(job, time.monotonic() - since)
        return job, outcome

    def _replace(self, actor: Any, job: Job | None, error: Exception) -> tuple[Job, Outcome] | None:
        """Ask for another actor in place of a lost one; its job waits for the next free one, a few times.

        Raises:
            SearchStoppedError: It was lost before it could do anything: the next would be too.
        """
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self.actors.remove(actor)
        if job is None:
            raise SearchStoppedError(f"Ray: an actor cannot start: {reason}; finished trials are kept")
        self._ask_for_actor()
        self._lost[job.number] += 1
        if self._lost[job.number] >= ATTEMPTS:
            return job, lost_too_often(job, f"with: {reason}")
        self.say(f"a Ray actor was lost; {job.name} runs again")
        self._waiting.appendleft(job)
        return None

    def _ask_for_actor(self) -> None:
        actor = self._new()
        self.actors.append(actor)
        self._starting[actor.pid.remote()] = actor

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
        numbers, folder = itertools.count(), str(Path.cwd())
        self._new = lambda: actor.remote(opener, next(numbers), folder)
        self._ray = ray
        for _ in range(count):
            self._ask_for_actor()
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
