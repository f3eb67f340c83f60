"""kill -9 at many random instants of a search on made-up answers, and what is left of it afterwards."""

import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search.storage.store import Store
from tests.faults.forks import context
from tests.faults.made_up import lead
from tests.search.fake import fake_study

KILLS = max(6, int(os.environ.get("MERGESEARCH_KILLS", "6")) // 10)
"""Kills per sampler and store; the more, the longer the study that is killed."""


def told(heard: object) -> list[tuple[object, ...]]:
    return [(r.name, r.part, r.params, r.metrics, r.state) for r in heard.records]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("sampler", "kind"), [("random", "sqlite"), ("tpe", "sqlite"), ("cmaes", "journal")])
def test_a_search_killed_at_random_instants_ends_as_if_nothing_had_happened(
    tmp_path: Path, sampler: str, kind: str, record_property: Any
) -> None:
    settings = {"trials": 3 * KILLS + 18, "sampler": sampler}  # more than a fast machine scores between the kills
    prefix = {"sqlite": "sqlite:///", "journal": "journal:"}[kind]
    chance, url = random.Random(KILLS), f"{prefix}{tmp_path / 'interrupted'}"
    killed = in_flight = 0
    for _ in range(10 * KILLS):
        process = context().Process(target=lead, args=(url, settings, None, 0.005))
        process.start()
        process.join(timeout=chance.uniform(0.3, 2.2 if kind == "sqlite" else 1.2))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
            process.join()
            in_flight += bool(running(url, settings))
        if killed == KILLS:
            break
    late, undisturbed = lead(url, settings), lead(f"{prefix}{tmp_path / 'undisturbed'}", settings)
    assert told(late) == told(undisturbed)
    numbers = Counter(record.number for record in late.trials())
    assert set(numbers.values()) == {1}
    assert len(numbers) == settings["trials"]
    record_property("count", killed)
    record_property("detail", f"{sampler}: {in_flight} with a trial in flight")
    assert killed >= KILLS // 2, "most runs ended before they could be killed: the test shows nothing"


def running(url: str, settings: dict[str, object]) -> list[object]:
    try:
        return list(Store(url, fake_study(search=settings)).trials.get_trials(states=(TrialState.RUNNING,)))
    except Exception:  # noqa: BLE001 - killed while the store was made
        return []
