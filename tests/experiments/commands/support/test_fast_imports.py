"""Imports without garbage collection leave it on, and what was imported out of it."""

import gc

from experiments.commands.support.fast_imports import uncollected


def test_collection_is_off_only_within() -> None:
    with uncollected():
        assert not gc.isenabled()
        kept = [object()]
    assert gc.isenabled()
    assert gc.get_freeze_count()
    assert kept
    gc.unfreeze()
