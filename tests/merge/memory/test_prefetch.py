"""Preparing the next items in threads: everything in order, errors where they are due, nothing after a stop."""

import threading
from contextlib import closing

import pytest

from merge.memory.prefetch import prepared_ahead


def test_items_come_in_order_and_the_next_ones_are_prepared_meanwhile() -> None:
    begun = [threading.Event() for _ in range(4)]

    def prepare(item: int) -> int:
        begun[item].set()
        return item * item

    for item, result in enumerate(prepared_ahead(range(4), prepare, 2)):
        assert result == item * item
        assert all(later.wait(10) for later in begun[item : item + 3])


def test_an_error_is_raised_where_its_item_is_due() -> None:
    def prepare(item: int) -> int:
        if item == 2:
            raise ValueError(item)
        return item

    results = prepared_ahead(range(9), prepare, 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(results)


def test_whoever_stops_early_leaves_no_thread_and_nothing_more_is_prepared() -> None:
    prepared, before = list[int](), set(threading.enumerate())

    def prepare(item: int) -> int:
        prepared.append(item)
        return item

    with closing(prepared_ahead(range(100), prepare, 2)) as results:
        assert next(results) == 0
    assert len(prepared) <= 3
    assert set(threading.enumerate()) <= before
    assert list(prepared_ahead([], str, 2)) == []
    assert list(prepared_ahead(range(3), str, 0)) == ["0", "1", "2"]
