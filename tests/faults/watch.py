"""Watches one call of the command line on hostile input: what it raised, printed, wrote, took, and tried to reach."""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from typer.testing import CliRunner

DEADLINE = 20.0
"""CPU seconds of one call."""
OVERHEAD = 96 << 20
"""Bytes that a call may take beside its input: code that is imported late, torch's buffers."""
FACTOR = 400
"""Bytes that a call may take for each byte of its input: every value of a text becomes an object of Python."""
LONGEST = 2500
"""Characters of a line of a message."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_REFUSED = {"pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"}


class HangError(BaseException):
    """A call took longer than the deadline."""


@dataclass
class Guard:
    """Hears what the interpreter does while `watching`; an audit hook can never be taken out again.

    Attributes:
        homes: Folders that may be written to.
        seen: What was done that may not be.
    """

    homes: tuple[str, ...] = ()
    watching: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event in _REFUSED:
            self.seen.append(f"{event} {arguments[:2]}")
        elif event in _CHANGES or (event == "open" and len(arguments) > 2 and int(arguments[2] or 0) & _WRITES):
            self._wrote(event, arguments[0])

    def _wrote(self, event: str, path: object) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            full = os.path.realpath(os.fsdecode(path))
            if not full.startswith((*self.homes, "/dev/")):
                self.seen.append(f"{event} {full}")


_guard: list[Guard] = []


def guard() -> Guard:
    """Return the guard of this process."""
    if not _guard:
        _guard.append(Guard())
        sys.addaudithook(_guard[0])
    return _guard[0]


@dataclass(frozen=True)
class Heard:
    """What one call did.

    Attributes:
        code: Exit code; None where something was raised.
        out: What it printed.
        err: What it said on standard error.
        raised: The traceback of what was raised; empty where nothing was.
        forbidden: What it tried that it must not.
        memory: Bytes at its peak, beyond those before it.
        seconds: CPU seconds.
    """

    code: int | None
    out: str
    err: str
    raised: str
    forbidden: tuple[str, ...]
    memory: int
    seconds: float

    def faults(self, *, size: int, places: tuple[str, ...]) -> Iterator[str]:
        """Go through what is wrong with it.

        Args:
            size: Bytes of the input.
            places: Words of which every message about the input holds one.
        """
        if self.raised:
            yield f"raised\n{self.raised}"
            return
        if self.code not in (0, 1, 2):
            yield f"exit code {self.code}"
        if any(line.startswith("Traceback (most recent") for line in (self.out + self.err).splitlines()):
            yield "printed a traceback"
        yield from (f"forbidden: {what}" for what in self.forbidden)
        lines = self.err.splitlines()
        told = [line for line in lines if line.startswith("error: ")]
        if self.code and not told:
            yield f"exit code {self.code} without a word"
        if self.code and len(told) < len(lines):
            yield f"a message is more than one line: {self.err!r}"
        for line in told:
            if not any(place in line for place in places):
                yield f"a message does not name {' or '.join(places)}: {line!r}"
            if len(line) > LONGEST or not line.isprintable():
                yield f"a message is no line for people: {line[:300]!r}"
        if self.memory > OVERHEAD + FACTOR * size:
            yield f"{self.memory >> 20} MB for an input of {size} bytes"


def invoked(app: Any, arguments: list[str], homes: tuple[Path, ...]) -> Heard:
    """Run a command of a typer application in this process, watched."""

    def run() -> tuple[int | None, str, str, str]:
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
        raised = result.exception is not None and not isinstance(result.exception, SystemExit)
        text = "".join(traceback.format_exception(result.exception)) if raised else ""
        return (None if raised else result.exit_code), result.stdout, result.stderr, text

    return watched(run, homes)


def watched(run: Callable[[], tuple[int | None, str, str, str]], homes: tuple[Path, ...]) -> Heard:
    """Run something that returns exit code, output, errors and traceback; return these and what it did."""
    own = guard()
    own.seen.clear()
    own.homes = tuple(os.path.realpath(home) for home in homes)
    _reset_peak()
    before, begun = _peak(), time.process_time()
    own.watching = True
    try:
        with _deadline():
            code, out, err, raised = run()
    except HangError:
        code, out, err, raised = None, "", "", f"took more than {DEADLINE} CPU seconds\n{traceback.format_exc()}"
    finally:
        own.watching = False
    return Heard(code, out, err, raised, tuple(own.seen), _peak() - before, time.process_time() - begun)


@contextmanager
def _deadline() -> Iterator[None]:
    """Raise once this process has used so much of the processor."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, DEADLINE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _reset_peak() -> None:
    """Have the kernel begin to watch for the peak anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak() -> int:
    """Return the peak of resident memory, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
