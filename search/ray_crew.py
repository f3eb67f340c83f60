"""A search on Ray: one actor per accelerator, or per processor core where a cluster has none; the only importer of ray.

Ray starts the actors and starts lost ones again; who scores which trial is between them and the store, as everywhere.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import StoreError, StudyError
from search.interrupts import Say
from search.locks import across_hosts

if TYPE_CHECKING:
    from search.workers import Joining

LOCAL = "local"
RESTARTS = 3
"""How often Ray starts an actor again that was lost."""

LEAVE = 300.0
"""Seconds that actors have to end in; they ask a block of questions at most, unless they hang."""


class Actor:
    """A worker as Ray sees it."""

    def __init__(self, folder: str) -> None:
        self._ends = False
        if Path(folder).is_dir():
            os.chdir(folder)

    def run(self, joining: "Joining") -> int:
        """Score trials until there are no more; return how many that were."""
        from search.workers import run_worker

        try:
            return run_worker(joining, ends=lambda: self._ends) or 0
        except KeyboardInterrupt:
            return 0

    def end(self) -> None:
        """End after the block of questions that is being asked."""
        self._ends = True

    def pid(self) -> int:
        """Return the number of its process."""
        return os.getpid()


@dataclass
class RayCrew:
    """The actors of a search.

    Attributes:
        joining: The study and the place of the process that leads.
        address: Of the cluster, ``auto`` for the one of this host; ``local`` starts one.
        count: Number of actors; 1 for as many as the cluster has accelerators, or cores.
        say: Takes one line for a person.
        make_room: Lets go of the leading process's models, which would be beside an actor's.
    """

    joining: "Joining"
    address: str
    count: int
    say: Say
    make_room: Callable[[], None]
    actors: list[Any] = field(default_factory=list)
    _runs: list[Any] = field(default_factory=list)

    def start(self) -> None:
        """Connect to the cluster, or start one, and start the actors.

        Raises:
            StudyError: Ray is not installed, or the cluster does not answer.
            StoreError: The cluster has several hosts and the store is a file.
        """
        ray = _connected(self.address)
        nodes = max(1, sum(bool(node["Alive"]) for node in ray.nodes()))
        url = str(self.joining.document["store"])
        if nodes > 1 and not across_hosts(url):
            raise StoreError(f"store {url}: must be PostgreSQL for a Ray cluster of {nodes} hosts, got a file")
        resources = ray.cluster_resources()
        accelerators = int(resources.get("GPU", 0))
        count = self.count if self.count > 1 else accelerators or int(resources.get("CPU", 1))
        place = replace(self.joining.place, share=-(-count // nodes))
        if accelerators:
            place = replace(place, device="cuda")
        self.make_room()
        remote = ray.remote(num_gpus=1 if accelerators else 0, num_cpus=1)(Actor)
        options = {"max_restarts": RESTARTS, "max_task_retries": RESTARTS, "max_concurrency": 2}
        self.actors = [remote.options(**options).remote(str(Path.cwd())) for _ in range(count)]
        joining = replace(self.joining, place=place)
        self._runs = [actor.run.remote(joining) for actor in self.actors]
        kind = "accelerator" if accelerators else "processor core"
        self.say(f"Ray: {count} actors on {nodes} hosts, one {kind} each")

    def suffices(self) -> bool:
        """Tell whether an actor works; what ended others is told."""
        import ray

        if not self._runs:
            return False
        done, self._runs = ray.wait(self._runs, num_returns=len(self._runs), timeout=0)
        for run in done:
            try:
                ray.get(run)
            except Exception as error:  # noqa: BLE001 - an actor may fail with anything; the others go on
                lines = str(error).strip().splitlines() or [type(error).__name__]
                self.say(f"a Ray actor ended: {lines[-1]}")
        if not self._runs:
            self.say("no Ray actor works any more; this process goes on alone")
        return bool(self._runs)

    def stop(self) -> None:
        """Have the actors end after their block of questions, and wait for it."""
        import ray

        if not ray.is_initialized():
            return
        try:
            for actor in self.actors:
                actor.end.remote()
            if self._runs:
                ray.wait(self._runs, num_returns=len(self._runs), timeout=LEAVE)
        finally:
            for actor in self.actors:
                ray.kill(actor)
            self._runs.clear()
            ray.shutdown()


def _connected(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == LOCAL:  # on a node of its own address Ray opens its ports to everybody; read when it is imported
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
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
