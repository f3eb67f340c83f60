"""A PostgreSQL server of a test's own, which can be stopped and started again, reached through a socket."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, as Debian's package lays them out or on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    onpath = shutil.which("initdb")
    return found[-1].parent if found else Path(onpath).resolve().parent if onpath else None


@dataclass(frozen=True)
class Server:
    """A server: its programs, its folder, and the user that runs it, since it refuses to be run by root."""

    programs: Path
    folder: str
    user: str | None

    @property
    def url(self) -> str:
        return f"postgresql://me@/postgres?host={self.folder}"

    def make(self) -> None:
        self._call("initdb", "-U", "me", "-A", "trust", "--no-sync")

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        self._call("pg_ctl", "-w", "-o", options, "-l", f"{self.folder}/log", "start")

    def stop(self, how: str) -> None:
        self._call("pg_ctl", "-m", how, "stop")

    def _call(self, program: str, *words: str) -> None:
        line = [f"{self.programs}/{program}", "-D", f"{self.folder}/data", *words]
        subprocess.run(line, user=self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server in a folder of its own; skip the test where PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: mergesearch[postgres]")
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    user = "nobody" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        if user is not None:
            shutil.chown(folder, user)
        server = Server(found, folder, user)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
