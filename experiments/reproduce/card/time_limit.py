"""Limits the CPU time of reading a card, so that no hostile text can occupy the reader for ever."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from experiments.errors import InputError

MAX_SECONDS = 30.0
"""CPU seconds allowed; a real card takes less than one."""


@contextmanager
def time_limit(name: str, seconds: float = MAX_SECONDS) -> Iterator[None]:
    """Interrupt the block after this much CPU time; without effect outside of the main thread.

    Args:
        name: What is read, for the message.
        seconds: CPU seconds of the process.

    Raises:
        InputError: It took longer.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGVTALRM"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise InputError(f"{name}: must be a model card, got a text that cannot be read in {seconds:g} s; shorten it")

    previous = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
