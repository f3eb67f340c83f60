"""The real command line in processes that kill themselves with signal 9 inside a named phase, at a drawn instant."""

import functools
import importlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.faults.forks import context
from tests.faults.question_log import QuestionLog, log_questions

NAMED = ("baseline", "trial", "told, not stored", "finalists", "test", "verdict", "export")
"""Phases that the table of kills must cover evenly."""
OTHERS = ("ask", "mlflow", "report")
PHASES = (*NAMED, *OTHERS)
SCORING = ("baseline", "trial", "finalists", "test")
ASKING = 0.75
"""Share of the kills in these that come after the first question; the rest fall into merging and before it."""
LATE = "late"
"""File that a process leaves which was killed at the very end of its phase."""
LONGEST = 600.0
"""Seconds after which a command counts as hanging; it takes a few on a machine that is not busy."""


def scoring_phase(scorer: object, job: Any, *rest: object, **named: object) -> str:
    """Return the phase in which a job is scored."""
    del scorer, rest, named
    return {"selection": "finalists", "test": "test"}.get(job.part, "trial" if job.number >= 0 else "baseline")


@dataclass(frozen=True)
class Hook:
    """A function with which a phase begins, ends, or both.

    Attributes:
        phase: The phase, or what returns it for the function's arguments.
        module: Module of the function.
        name: Its name there, with its class.
        begins: The phase begins where the function does.
        ends: The phase ends where the function does.
    """

    phase: str | Callable[..., str]
    module: str
    name: str
    begins: bool = True
    ends: bool = True


HOOKS = (
    Hook("ask", "search.storage.store", "Store.ask"),
    Hook(scoring_phase, "search.scoring.candidate_scorer", "CandidateScorer.score"),
    Hook("told, not stored", "search.storage.store", "Store.tell"),
    Hook("verdict", "search.verdict.conclusion", "Conclusion.verdict", ends=False),
    Hook("verdict", "experiments.study_folder.folder", "FolderWriter.finished", begins=False),
    Hook("mlflow", "experiments.tracking.mirror", "MlflowMirror.log_trial"),
    Hook("mlflow", "experiments.tracking.mirror", "MlflowMirror.log_verdict"),
    Hook("report", "experiments.report.page", "write_report"),
    Hook("export", "experiments.release.export", "export_winner"),
)


@dataclass(frozen=True)
class Kill:
    """Where a process kills itself.

    Attributes:
        phase: The phase.
        turn: Which of its times, counted from 1.
        delay: Seconds from its beginning; where it is over sooner, the kill comes at its end.
        asking: The seconds count from the first question that is asked in it, if any is.
    """

    phase: str
    turn: int
    delay: float
    asking: bool = False


@dataclass
class Stopwatch:
    """Hears of the phases of its process: notes how long they last, and kills the process in one of them."""

    kill: Kill | None
    notes: Path
    begun: dict[str, float] = field(default_factory=dict)
    count: int = 0
    lit: bool = False

    def begin(self, phase: str) -> None:
        """Start the fuse if this is the phase and the turn."""
        self.begun[phase] = time.perf_counter()
        if self.kill is None or phase != self.kill.phase:
            return
        self.count += 1
        if self.count == self.kill.turn and not self.kill.asking:
            self.light()

    def asks(self) -> None:
        """Hear of a block of questions that is about to be asked."""
        if self.kill is not None and self.kill.asking and self.count == self.kill.turn and not self.lit:
            self.light()

    def light(self) -> None:
        """Light the fuse."""
        self.lit = True
        delay = 0.0 if self.kill is None else self.kill.delay
        threading.Thread(target=self._fuse, args=(delay,), daemon=True).start()

    def end(self, phase: str) -> None:
        """Kill the process at the latest now if this is the phase and the turn; note the seconds that it took."""
        if self.kill is not None:
            if phase == self.kill.phase and self.count == self.kill.turn:
                (self.notes.parent / LATE).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        elif phase in self.begun:
            seconds = time.perf_counter() - self.begun.pop(phase)
            with self.notes.open("a") as stream:
                stream.write(f"{phase}\t{seconds}\n")

    def _fuse(self, delay: float) -> None:
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)


def command(words: list[str], home: Path, run: int, kill: Kill | None) -> None:
    """Run the command line in a folder; what it prints goes to ``log.txt``."""
    os.chdir(home)
    sys.argv = ["mergesearch", *words]
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.setswitchinterval(0.0002)  # the fuse's thread waits for its turn no longer than that
    stopwatch = Stopwatch(kill, home / "phases.txt")
    log_questions(QuestionLog(home / "questions.jsonl", run, heard=stopwatch.asks))
    for hook in HOOKS:
        put(hook, stopwatch)
    from experiments.cli import main

    main()


def put(hook: Hook, stopwatch: Stopwatch) -> None:
    """Put a hook in place of its function."""
    owner: Any = importlib.import_module(hook.module)
    *classes, name = hook.name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    real = getattr(owner, name)

    @functools.wraps(real)
    def heard(*values: Any, **named: Any) -> Any:
        phase = hook.phase if isinstance(hook.phase, str) else hook.phase(*values, **named)
        if hook.begins:
            stopwatch.begin(phase)
        result = real(*values, **named)
        if hook.ends:
            stopwatch.end(phase)
        return result

    setattr(owner, name, heard)


@dataclass
class Commands:
    """Runs commands in one folder, each a process of its own, and kills some.

    Attributes:
        home: The folder.
        chance: Draws the instants of kills.
        seconds: How long each phase was seen to last.
        runs: Number of processes so far.
    """

    home: Path
    chance: random.Random
    seconds: dict[str, list[float]] = field(default_factory=dict)
    runs: int = 0

    def run(self, *words: object) -> str:
        """Run a command to its end, and return what it printed; learn how long its phases last."""
        code, text = self._process(words, None), (self.home / "log.txt").read_text()
        assert code == 0, text
        notes = self.home / "phases.txt"
        for line in notes.read_text().splitlines() if notes.exists() else ():
            phase, _, seconds = line.partition("\t")
            self.seconds.setdefault(phase, []).append(float(seconds))
        notes.unlink(missing_ok=True)
        return text

    def kill(self, phase: str, turn: int, *words: object) -> bool | None:
        """Run a command that is killed inside a phase; tell whether it was before the phase's end, None if never."""
        late = self.home / LATE
        late.unlink(missing_ok=True)
        delay, asking = self.chance.random() * median(self.seconds[phase]), self.chance.random() < ASKING
        code = self._process(words, Kill(phase, turn, delay, asking and phase in SCORING))
        assert code in (0, -signal.SIGKILL), (self.home / "log.txt").read_text()
        return None if code == 0 else not late.exists()

    def _process(self, words: tuple[object, ...], kill: Kill | None) -> int | None:
        self.runs += 1
        process = context().Process(target=command, args=([*map(str, words)], self.home, self.runs, kill))
        process.start()
        process.join(LONGEST)
        if process.is_alive():
            process.kill()
            raise AssertionError(f"no end in {LONGEST:.0f} s: {(self.home / 'log.txt').read_text()}")
        code: int | None = process.exitcode
        return code
