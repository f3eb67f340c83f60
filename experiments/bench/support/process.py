"""Runs a command and says what it took: wall clock, CPU time, peak memory; and names the machine."""

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_PAUSE = 0.005
"""Seconds between two looks at a process's memory."""


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Attributes:
        wall: Seconds from start to exit.
        cpu: Seconds of user and system time.
        resident: Peak of resident bytes, mapped files included.
        anonymous: Peak of bytes that no file backs, as sampled every few milliseconds.
    """

    wall: float
    cpu: float
    resident: int
    anonymous: int


def run(command: Sequence[str], *, log: Path) -> Cost:
    """Run a command to its end; Linux only, since the figures come from ``/proc``.

    Raises:
        RuntimeError: It failed; the message holds the last lines it wrote.
    """
    started = time.perf_counter()
    resident = anonymous = 0
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            seen = _memory(process.pid)
            if seen.get("VmHWM", resident) < resident:
                anonymous = 0  # what was seen before was this process, not yet replaced by the command
            resident, anonymous = seen.get("VmHWM", resident), max(anonymous, seen.get("RssAnon", 0))
            time.sleep(_PAUSE)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed:\n" + "\n".join(log.read_text("utf-8").splitlines()[-5:]))
    return Cost(wall, usage.ru_utime + usage.ru_stime, resident, anonymous)


def middle(costs: Sequence[Cost]) -> Cost:
    """Return the median of each figure, and the highest of each memory figure."""
    return Cost(
        median(cost.wall for cost in costs),
        median(cost.cpu for cost in costs),
        max(cost.resident for cost in costs),
        max(cost.anonymous for cost in costs),
    )


def machine() -> str:
    """Return a line that names processor, cores, memory and Python."""
    processor = next((line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if "model name" in line), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}"


def _memory(pid: int) -> dict[str, int]:
    found = {}
    for line in _lines(f"/proc/{pid}/status"):
        key, _, value = line.partition(":")
        if key in {"VmHWM", "RssAnon"}:
            found[key] = int(value.split()[0]) * 1024
    return found


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []
