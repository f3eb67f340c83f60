"""Work on the next item in a second thread while the caller is busy with this one."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def one_ahead(items: Iterable[S], prepare: Callable[[S], T]) -> Generator[T]:
    """Return ``prepare(item)`` for each item, in order; the next one is prepared while the caller has the last.

    An error is raised where its item is due. Whoever stops early waits for what is being prepared, and no more.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        waiting = None
        for item in items:
            begun = thread.submit(prepare, item)
            if waiting is not None:
                yield waiting.result()
            waiting = begun
        if waiting is not None:
            yield waiting.result()
