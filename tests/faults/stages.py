"""The real command line in processes that tell through a pipe which stage they are in, to be killed there."""

import functools
import importlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.forks import context

SEARCH = ("ask", "merge", "score", "tell", "mlflow")
AFTER = ("report", "export")
BEGIN, END = "begin", "end"
LONGEST = 600.0
"""Seconds without a word after which a command counts as hanging; it takes a few on a machine that is not busy."""


@dataclass(frozen=True)
class Hook:
    """A function that a stage is made of: the stage begins with it, ends with it, or both."""

    stage: str
    module: str
    name: str
    begins: bool = True
    ends: Callable[[Any], bool] = lambda _: True


HOOKS = (
    Hook("ask", "search.storage.store", "Store.ask", ends=lambda _: False),
    Hook("ask", "search.space.search_space", "SearchSpace.suggest", begins=False),
    Hook("merge", "merge.merger", "Merger.merge_live"),
    Hook("score", "evals.evaluation", "Evaluation.run"),
    Hook("tell", "search.storage.store", "Store.tell"),
    Hook("mlflow", "experiments.tracking", "MlflowMirror.log_trial"),
    Hook("mlflow", "experiments.tracking", "MlflowMirror.log_verdict"),
    Hook("report", "experiments.report.page", "write_report"),
    Hook("export", "experiments.release.export", "export_winner"),
)


def command(words: list[str], home: Path, stage: str | None, turn: int, pipe: Any) -> None:
    """Run the command line in a folder; tell when a stage begins for the n-th time and ends; all stages for None."""
    os.chdir(home)
    sys.argv = ["mergesearch", *words]
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    count = 0

    def tell(what: str, hook: Hook) -> None:
        nonlocal count
        count += what == BEGIN and hook.stage == stage
        if stage is None or (hook.stage == stage and count == turn):
            pipe.send((what, hook.stage, time.perf_counter()))

    for hook in HOOKS:
        put(hook, tell)
    from experiments.cli import main

    main()


def put(hook: Hook, tell: Callable[[str, Hook], None]) -> None:
    """Put a hook in place of its function."""
    owner: Any = importlib.import_module(hook.module)
    *classes, name = hook.name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    real = getattr(owner, name)

    @functools.wraps(real)
    def told(*values: Any, **named: Any) -> Any:
        if hook.begins:
            tell(BEGIN, hook)
        result = real(*values, **named)
        if hook.ends(result):
            tell(END, hook)
        return result

    setattr(owner, name, told)


@dataclass
class Killer:
    """Runs commands, and kills them at a random instant of a stage.

    Attributes:
        home: Where they run.
        chance: Chooses the instants.
        seconds: How long each stage was seen to last.
        hits: Kills by stage, of those that fell inside it.
        misses: Kills that came just after their stage.
    """

    chance: random.Random
    home: Path = Path()
    seconds: dict[str, list[float]] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*SEARCH, *AFTER), 0))
    misses: int = 0

    def run(self, *words: object) -> str:
        """Run a command to its end and return what it printed; learn how long its stages last."""
        (self.home / "log.txt").write_text("")
        mine, process = self._start(words, None, 1)
        began: dict[str, float] = {}
        while (heard := self._hear(mine, process)) is not None:
            what, stage, now = heard
            if what == BEGIN:
                began[stage] = now
            elif stage in began:
                self.seconds.setdefault(stage, []).append(now - began.pop(stage))
        process.join()
        text = (self.home / "log.txt").read_text()
        assert process.exitcode == 0, text
        return text

    def kill(self, stage: str, turn: int, *words: object) -> bool:
        """Kill a command inside a stage; tell whether it got that far."""
        mine, process = self._start(words, stage, turn)
        heard = self._hear(mine, process)
        if heard is None:
            process.join()
            assert process.exitcode == 0, (self.home / "log.txt").read_text()
            return False
        time.sleep(self.chance.random() * self.chance.choice(self.seconds[stage]))
        assert process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        ended = self._hear(mine, process)
        if ended is None:
            self.hits[stage] += 1
        else:
            self.seconds[stage].append(ended[2] - heard[2])
            self.misses += 1
        return True

    def _start(self, words: tuple[object, ...], stage: str | None, turn: int) -> tuple[Any, Any]:
        mine, theirs = context().Pipe(duplex=False)
        process = context().Process(target=command, args=([*map(str, words)], self.home, stage, turn, theirs))
        process.start()
        theirs.close()
        return mine, process

    def _hear(self, pipe: Any, process: Any) -> tuple[str, str, float] | None:
        """Return the next word of a process, None when it has ended."""
        try:
            if not pipe.poll(LONGEST):
                process.kill()
                raise AssertionError(f"no word in {LONGEST:.0f} s: {(self.home / 'log.txt').read_text()}")
            what, stage, now = pipe.recv()
        except (EOFError, OSError):
            return None
        return what, stage, now
