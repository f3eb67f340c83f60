"""Processes by host, number and birth, and whether one of this host still lives."""

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Owner:
    """A process that runs a trial, or leads a study.

    Attributes:
        host: Name of its host.
        pid: Its number there.
        born: When it began, in the kernel's clock ticks, since numbers are given again; None where unknown.
        space: The namespace that the number is of, since containers may share a host name; None where unknown.
    """

    host: str
    pid: int
    born: int | None = None
    space: int | None = None

    @classmethod
    def me(cls) -> "Owner":
        """Return this process."""
        return cls(socket.gethostname(), os.getpid(), _born(os.getpid()), _space())

    @classmethod
    def of(cls, record: Mapping[str, Any] | str) -> "Owner":
        """Return what ``as_dict`` or ``as_text`` gave."""
        if isinstance(record, str):
            host, *numbers = record.rsplit(" ", 3)
            pid, born, space = (int(number) if number != "-" else None for number in numbers)
            assert pid is not None
            return cls(host, pid, born, space)
        return cls(record["host"], record["pid"], record.get("born"), record.get("space"))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def as_text(self) -> str:
        """Return it as one word per fact: every process holds the owner of every trial, and equal texts once."""
        return " ".join("-" if fact is None else str(fact) for fact in (self.host, self.pid, self.born, self.space))

    def here(self) -> bool:
        """Tell whether it is of this host, so that its life can be seen."""
        return self.host == socket.gethostname() and self.space in (None, _space())

    def lives(self) -> bool:
        """Tell whether a process of this host lives."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return not _dead(self.pid) and self.born in (None, _born(self.pid))

    def stands(self) -> bool:
        """Tell whether a process of this host was stopped by a signal, and not continued yet."""
        return stands_still(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _stat(pid: int) -> list[str]:
    """Return the kernel's words on a process from its state on; empty where the kernel has none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _born(pid: int) -> int | None:
    words = _stat(pid)
    return int(words[19]) if len(words) > 19 else None


def _dead(pid: int) -> bool:
    """Tell whether a process has ended and only waits to be asked for its exit code."""
    return _stat(pid)[:1] in (["Z"], ["X"])


def stands_still(pid: int) -> bool:
    """Tell whether a process of this host was stopped by a signal, and not continued yet."""
    return _stat(pid)[:1] == ["T"]


def _space() -> int | None:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None
