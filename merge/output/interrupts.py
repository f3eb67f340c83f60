"""Ctrl-C and SIGTERM while files are written: heard between two tensors, never in the middle of something."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HEARD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_interrupts() -> Iterator[Callable[[], None]]:
    """Hold the first interrupt back until the function given is called, or until the end; a second one acts at once.

    Python raises ``KeyboardInterrupt`` wherever it happens to be: between making a folder and the ``try`` that clears
    it away, or in a library's compiled code, some of which answers with another error. Outside the main thread,
    where no signal is heard, nothing is changed.

    Raises:
        KeyboardInterrupt: From the function, after SIGINT.
        SystemExit: From the function, after SIGTERM, with the exit code 143 that a shell gives it.
    """
    heard: list[int] = []

    def act() -> None:
        if heard:
            number = heard[0]
            heard.clear()
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def hear(number: int, frame: FrameType | None) -> None:
        del frame
        act()
        heard.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield act
        return
    before = {number: signal.signal(number, hear) for number in HEARD}
    try:
        yield act
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    act()
