"""Texts that are made to be read for ever end in one line."""

from pathlib import Path

import pytest

from experiments.errors import InputError
from experiments.reproduce.card.card_text import MAX_RUN, clean
from experiments.reproduce.card.time_limit import time_limit


def test_a_text_that_is_read_for_ever_is_refused() -> None:
    with pytest.raises(InputError, match=r"card\.md: must be a model card"):
        _read_for_ever()


def _read_for_ever() -> None:
    with time_limit("card.md", 0.05):
        while True:
            pass


def test_long_runs_of_a_mark_are_cut() -> None:
    for mark in "`|-<# ":
        assert len(clean((f"a{mark * 100_000}b").encode())) <= MAX_RUN + 2


def test_a_deadline_that_is_kept_leaves_nothing_behind(tmp_path: Path) -> None:
    import signal

    with time_limit("card.md"):
        pass
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
