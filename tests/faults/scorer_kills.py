"""Studies on made-up answers whose scorers are killed, stopped or out of memory, in processes or as Ray actors."""

import os
import random
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from search.workers.pool import Outcome, Pool
from tests.faults.made_up import ACC, lead
from tests.faults.question_log import QuestionLog, read_log
from tests.search.fake import FakeResources, fake_study
from tests.search.loop.test_run import skilled
from tests.search.recorder import Recorder

FRESH = 12
"""Questions that a scorer has asked of its job at most when it is lost, so that it still has that job."""
ROOM = 64 << 20
"""Bytes that a scorer may still take while its memory is scarce."""


@dataclass(frozen=True)
class MadeUp:
    """A made-up study whose scorers write down every question before they answer it.

    Attributes:
        search: Its search section.
        log: Where questions are written down.
        seconds: What an answer takes.
        scarce: Numbers of the trials in which memory runs out.
    """

    search: dict[str, Any]
    log: Path
    seconds: float = 0.004
    scarce: tuple[int, ...] = ()

    def open(self, number: int) -> "Writing":
        """Open a scorer; sent to another process with the study."""
        del number
        log = QuestionLog(self.log)
        answer = partial(self.answered, log)
        scorer = FakeResources(fake_study(search=self.search), ACC, answer, (24, 24, 40)).scorer
        return Writing(scorer, log)

    def answered(self, log: QuestionLog, recipe: Any, seed: int, question: Any) -> Any:
        """Answer a question."""
        log.asks([question])
        time.sleep(self.seconds)
        if log.job.number in self.scarce:
            run_out_of_memory()
        return skilled(recipe, seed, question)


@dataclass
class Writing:
    """A scorer that tells its log which job it has."""

    inner: Any
    log: QuestionLog

    def score(self, job: Any, between: Any = None) -> Outcome:
        """Score a job."""
        self.log.begin(job)
        outcome: Outcome = self.inner.score(job, between)
        return outcome


def run_out_of_memory() -> None:
    """Ask the operating system for more than it may give to this process."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, before[1]))
    try:
        bytearray(4 * ROOM)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@dataclass
class Killer(threading.Thread):
    """Sends a signal to scorers that are at work, at random instants.

    Attributes:
        log: What scorers asked.
        wanted: Number of scorers that get it.
        chance: Draws scorers and instants.
        sent: The signal.
        pause: Seconds between two at most.
    """

    log: Path
    wanted: int
    chance: random.Random
    sent: signal.Signals = signal.SIGKILL
    pause: float = 0.5
    hit: set[int] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        """Send signals until there were enough."""
        while len(self.hit) < self.wanted and not self.over.wait(self.pause * self.chance.random()):
            blocks = read_log(self.log)
            counts = Counter((block.pid, block.key) for block in blocks)
            lost = {block.key for block in blocks if block.pid in self.hit}
            at_work = {block.pid for block in blocks[-3:] if counts[block.pid, block.key] <= FRESH}
            again = {block.pid for block in blocks[-3:] if block.key in lost}  # the third loss would fail the job
            if victims := sorted(at_work - again - self.hit):
                self._send(self.chance.choice(victims))

    def _send(self, pid: int) -> None:
        try:
            os.kill(pid, self.sent)
        except ProcessLookupError:
            return
        self.hit.add(pid)


@dataclass(frozen=True)
class Losses:
    """What became of a study whose scorers were lost.

    Attributes:
        kills: Number of scorers that were lost.
        in_flight: Jobs that were begun again.
        repeated: Questions of these that were asked again.
        asked_again: Questions that were asked more often than scorers were lost in them.
        changed: Whether trials or answers were others than those of a study that nothing happened to.
    """

    kills: int
    in_flight: int = 0
    repeated: int = 0
    asked_again: int = 0
    changed: int = 0


def lose_scorers(study: MadeUp, url: str, pool: Pool, killer: Killer, told: Callable[[Recorder], Any]) -> Losses:
    """Run a study while its scorers are lost, and compare it with one that nothing happens to.

    Args:
        study: The study.
        url: Its store.
        pool: Its scorers.
        killer: What happens to them.
        told: Returns what must be the same of both.
    """
    killer.start()
    heard = lead(url, study.search, pool)
    killer.over.set()
    killer.join()
    alone = lead(f"{url}.alone", study.search)
    blocks = read_log(study.log)
    asked = Counter((block.key, question) for block in blocks for question in block.questions)
    by_key: dict[Any, set[int]] = {}
    for block in blocks:
        by_key.setdefault(block.key, set()).add(block.pid)
    lost = {key: len(pids & killer.hit) for key, pids in by_key.items()}
    return Losses(
        kills=len(killer.hit),
        in_flight=sum(len(pids) > 1 for pids in by_key.values()),
        repeated=sum(count - 1 for count in asked.values()),
        asked_again=sum(max(0, count - 1 - lost[key]) for (key, _), count in asked.items()),
        changed=int(told(heard) != told(alone)),
    )
