"""A limit on the time that reading a stranger's text may take, so that none can be written that is read for ever."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from experiments.errors import InputError

LONGEST = 30.0
"""Seconds of the processor; a real card takes less than one."""


@contextmanager
def read_in_time(name: str, longest: float = LONGEST) -> Iterator[None]:
    """Stop what is done inside once it has used so much of the processor; without effect beside the main thread.

    Args:
        name: What is read, for the message.
        longest: Seconds of the processor.

    Raises:
        InputError: It took longer.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGVTALRM"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise InputError(f"{name}: must be a model card, got a text that cannot be read in {longest:g} s; shorten it")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, longest)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
