"""Results on disk by content: a key holds all that a result depends on, and a file holds one result.

A file is a line with the SHA-256 of the rest, then JSON. One that is cut off, changed or of another kind counts as not
there and is written anew; one that cannot be written is a warning, since everything in it can be made again.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class DiskCache:
    """Results in a folder, which is made when the first one is kept.

    Args:
        folder: Where they are; it may be deleted at any time.
        waiting: Write nothing before `settle` is called.
        most_bytes: Size above which the files that were used longest ago are deleted; None for no limit.
    """

    def __init__(self, folder: Path, *, waiting: bool = False, most_bytes: int | None = None) -> None:
        self.folder = folder
        self._most_bytes = most_bytes
        self._waiting: list[tuple[str, Any, Any]] | None = [] if waiting else None

    def settle(self) -> None:
        """Write what has waited; from here on, nothing waits."""
        waiting, self._waiting = self._waiting or [], None
        for kind, key, value in waiting:
            self.write(kind, key, value)

    def read(self, kind: str, key: Any) -> Any:
        """Return the JSON value kept under `key`, or None."""
        path = self._path(kind, key)
        try:
            checksum, _, body = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            _log.warning("%s is damaged; it is made again", path)
            return None
        if self._most_bytes is not None:
            with suppress(OSError):
                os.utime(path)  # it is in use: others are deleted first
        return json.loads(body)

    def write(self, kind: str, key: Any, value: Any) -> None:
        """Keep a JSON value under `key`, whole or not at all."""
        if self._waiting is not None:
            self._waiting.append((kind, key, value))
            return
        body = json.dumps(value, ensure_ascii=False).encode()
        path = self._path(kind, key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                with beside.open("wb") as stream:
                    stream.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                    stream.flush()
                    os.fsync(stream.fileno())
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
            self._make_room(path)
        except OSError as error:
            _log.warning("%s could not be kept (%s); the next start makes it again", path, error)

    def remember(
        self, kind: str, key: Any, make: Callable[[], _T], encode: Callable[[_T], Any], decode: Callable[[Any], _T]
    ) -> _T:
        """Return what `make` makes, from disk where it was made before.

        It is kept only when what `decode` makes of it is equal to it, so that both starts see the same.

        Args:
            kind: What it is; the beginning of the file's name.
            key: JSON value of all that the result depends on.
            make: Makes it.
            encode: Turns it into a JSON value; a TypeError or ValueError means that it cannot be kept.
            decode: Turns that back; any error of the form of the value means that it is made again.
        """
        value = self.read(kind, key)
        if value is not None:
            try:
                return decode(value)
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                _log.warning("%s cannot be read (%s); it is made again", self._path(kind, key), error)
        made = make()
        try:
            value = encode(made)
            same = decode(json.loads(json.dumps(value))) == made
        except (TypeError, ValueError):
            same = False
        if same:
            self.write(kind, key, value)
        return made

    def _make_room(self, newest: Path) -> None:
        """Delete the files that were used longest ago until the rest keeps the limit; the newest one stays."""
        if self._most_bytes is None:
            return
        seen = [(file.stat(), file) for file in self.folder.glob("*.json") if file != newest]
        left = self._most_bytes - newest.stat().st_size
        for status, file in sorted(seen, key=lambda pair: -pair[0].st_mtime):
            left -= status.st_size
            if left < 0:
                file.unlink(missing_ok=True)

    def _path(self, kind: str, key: Any) -> Path:
        return self.folder / f"{kind}-{digest(key)[:32]}.json"
