"""Imports without garbage collection, for commands that take less time than looking through torch for garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage while something is imported, nor through it later, not even at the end of the process.

    Of importing torch and leaving again this saves a third.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
