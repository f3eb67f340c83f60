"""Preparing the next item in a second thread: everything in order, errors where they are due, nothing after a stop."""

import threading
from contextlib import closing

import pytest

from merge.ahead import one_ahead


def test_items_come_in_order_and_the_next_one_is_prepared_meanwhile() -> None:
    begun = [threading.Event() for _ in range(4)]

    def prepare(item: int) -> int:
        begun[item].set()
        return item * item

    for item, result in enumerate(one_ahead(range(4), prepare)):
        assert result == item * item
        assert item == 3 or begun[item + 1].wait(10)


def test_an_error_is_raised_where_its_item_is_due() -> None:
    def prepare(item: int) -> int:
        if item == 2:
            raise ValueError(item)
        return item

    results = one_ahead(range(9), prepare)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(results)


def test_whoever_stops_early_leaves_no_thread_and_nothing_more_is_prepared() -> None:
    prepared: list[int] = []

    def prepare(item: int) -> int:
        prepared.append(item)
        return item

    with closing(one_ahead(range(100), prepare)) as results:
        assert next(results) == 0
    assert len(prepared) <= 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
    assert list(one_ahead([], str)) == []
