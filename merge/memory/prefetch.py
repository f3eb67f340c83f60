"""Work on the next items in threads while the caller is busy with one."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def prepared_ahead(items: Iterable[S], prepare: Callable[[S], T], count: int) -> Generator[T]:
    """Return ``prepare(item)`` for each item, in order; the next `count` are prepared while the caller has the last.

    An item is taken when the caller asks for the one that stands `count` before it; with a count of 0 there are no
    threads. An error is raised where its item is due. Whoever stops early closes the generator, which waits for what
    is being prepared, and no more.
    """
    if count == 0:
        yield from map(prepare, items)
        return
    waiting = deque[Future[T]]()
    threads = ThreadPoolExecutor(count, thread_name_prefix="ahead")
    try:
        for item in items:
            waiting.append(threads.submit(prepare, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
