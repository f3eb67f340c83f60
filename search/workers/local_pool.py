"""Scorers in processes of this host, one per core or accelerator, each with a model of its own.

A process that died is replaced, and its job handed out again; so is one whose job exceeds its time limit.
"""

import copy
import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from search.errors import SearchStoppedError
from search.interrupts import Say, silent
from search.results.job import Job
from search.workers.pool import ATTEMPTS, OpenScorer, Outcome, Scorer, lost_too_often
from search.workers.time_limit import TimeLimit

POLL = 0.2
"""Seconds between looks at whether the search was asked to end."""
LEAVE = 5.0
"""Seconds that a process has to end in after it was asked to."""


@dataclass
class _Process:
    """A scorer's process: its place on this host, its connection, and the job that it has."""

    number: int
    process: Any
    connection: Connection
    job: Job | None = None
    since: float = 0.0


@dataclass
class LocalPool:
    """A pool of processes.

    Attributes:
        prepare: Returns what opens a scorer in its process; called for the first job.
        size: Number of processes.
        check: Called while waiting; it raises where the search was asked to end.
        say: Takes one line for a person.
        limit: How long a job may take.
        context: Starts processes.
    """

    prepare: Callable[[], OpenScorer]
    size: int
    check: Callable[[], None] = lambda: None
    say: Say = silent
    limit: TimeLimit = field(default_factory=TimeLimit)
    context: Any = field(default_factory=lambda: multiprocessing.get_context("spawn"))
    _open_scorer: OpenScorer | None = None
    _processes: list[_Process] = field(default_factory=list)
    _waiting: deque[Job] = field(default_factory=deque)
    _lost: Counter[tuple[str, str]] = field(default_factory=Counter)

    def submit(self, job: Job) -> None:
        """Hand a job to a process that has none; the first job starts them."""
        if self._open_scorer is None:
            self._open_scorer = self.prepare()
            self._processes = [self._start(number) for number in range(self.size)]
        self._waiting.append(job)
        self._hand_out()

    def next_finished(self) -> tuple[Job, Outcome]:
        """Wait for a job to finish, and return it with its outcome."""
        while True:
            self.check()
            busy = [one for one in self._processes if one.job is not None]
            ready = wait([one.connection for one in busy], timeout=POLL)
            for one in busy:
                assert one.job is not None
                if one.connection in ready:
                    finished = self._received(one, one.job)
                elif self.limit.exceeded(one.job, time.monotonic() - one.since):
                    finished = self._replaced(one, one.job, "took too long")
                else:
                    continue
                self._hand_out()
                if finished is not None:
                    return finished

    def close(self) -> None:
        """End the processes: those that have no job leave by themselves once their connection is closed."""
        for one in self._processes:
            one.connection.close()
            if one.job is not None:
                one.process.terminate()
        for one in self._processes:
            one.process.join(LEAVE)
            one.process.kill()
            one.process.join()
        self._processes, self._waiting = [], deque()

    def _start(self, number: int) -> _Process:
        mine, theirs = self.context.Pipe()
        process = self.context.Process(target=work, args=(self._open_scorer, number, theirs), daemon=True)
        process.start()
        theirs.close()
        return _Process(number, process, mine)

    def _hand_out(self) -> None:
        for one in self._processes:
            if one.job is None and self._waiting:
                one.job, one.since = self._waiting.popleft(), time.monotonic()
                try:
                    one.connection.send(one.job)
                except OSError:  # it died with nothing to do; that it has a job now is found out by ``next_finished``
                    continue

    def _received(self, one: _Process, job: Job) -> tuple[Job, Outcome] | None:
        """Return a finished job; None where its process died instead, and the job is to be handed out again."""
        try:
            outcome: Outcome | Exception = one.connection.recv()
        except (EOFError, OSError):
            one.process.join(LEAVE)
            return self._replaced(one, job, f"with exit code {one.process.exitcode}")
        if isinstance(outcome, Exception):
            raise outcome
        self.limit.learn(job, time.monotonic() - one.since)
        one.job = None
        return job, outcome

    def _replaced(self, one: _Process, job: Job, why: str) -> tuple[Job, Outcome] | None:
        """Put a new process in the place of one that is lost; return its job if it failed by that."""
        one.process.kill()
        one.process.join()
        one.connection.close()
        self._processes[self._processes.index(one)] = self._start(one.number)
        self._lost[job.name, job.part] += 1
        self.say(f"scorer {one.number} is replaced: its process {why} in {job.name}")
        if self._lost[job.name, job.part] >= ATTEMPTS:
            return job, lost_too_often(job, why)
        self._waiting.appendleft(job)
        return None


def work(open_scorer: OpenScorer, number: int, connection: Connection) -> None:
    """Score jobs in a process of their own, until the leader closes the connection or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the leader hears of Ctrl-C, and ends its scorers
    leader = multiprocessing.parent_process()
    scorer: Scorer | None = None

    def between() -> None:
        if leader is not None and not leader.is_alive():
            raise SystemExit

    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        try:
            scorer = scorer or open_scorer(number)
            outcome: Outcome | Exception = scorer.score(job, between)
        except Exception as error:  # noqa: BLE001 - whatever it is, the leader tells of it
            outcome = sendable(error, number)
        try:
            connection.send(outcome)
        except OSError:
            return


def sendable(error: Exception, number: int) -> Exception:
    """Return an error as it is, where another process can read it, else one that says the same."""
    try:
        again = copy.copy(error)  # made anew from its arguments, as the other process would
    except Exception:  # noqa: BLE001 - an error can be made of anything
        again = None
    plain = all(part is None or isinstance(part, str | int | float) for part in (*error.args, *vars(error).values()))
    if plain and type(again) is type(error) and str(again) == str(error):
        return error
    return SearchStoppedError(f"scorer {number}: {type(error).__name__}: {error}")
