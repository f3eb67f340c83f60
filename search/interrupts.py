"""Ctrl-C: the first ends a search after the current block of questions, the second at once."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

Say = Callable[[str], None]
"""Takes one line for a person."""


def silent(line: str) -> None:
    """Tell nobody."""
    del line


class Pause:
    """Hears Ctrl-C while it is entered, in the main thread; elsewhere it only asks ``also``.

    Args:
        say: Takes one line for a person.
        also: Another reason to end.
    """

    def __init__(self, say: Say = silent, also: Callable[[], bool] | None = None) -> None:
        self._say = say
        self._also = also
        self._asked = False
        self._before: Any = None

    def check(self) -> None:
        """Go on, or end.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed since, or there is another reason to end.
        """
        if self._asked or (self._also is not None and self._also()):
            raise KeyboardInterrupt

    def __enter__(self) -> "Pause":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._say("ends after the current block of questions; Ctrl-C again ends at once, nothing finished is lost")
