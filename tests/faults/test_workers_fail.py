"""Scorers that a cluster loses: each trial is there once, as if nothing was."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.loop.run import run_search
from search.study.study import parse_study
from tests.search.recorder import Recorder
from tests.search.studies import tiny_study
from tests.search.workers.test_local_pool import trials_of


def actors() -> list[int]:
    """Return the processes of Ray actors on this host."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::ScorerActor"):
            found.append(int(file.parent.name))
    return found


def test_an_actor_that_ray_loses_is_started_again(
    tmp_path: Path, tiny_models: Path, record_property: Callable[[str, object], None]
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: mergesearch[ray]")
    study = parse_study(tiny_study(sampler="random", race=False, workers=2, trials=8), place="tiny.yaml")
    killed: list[int] = []

    class Murderer(Recorder):
        def scored(self, record: Any) -> None:
            super().scored(record)
            if len(self.trials()) == 1 and not killed:
                threading.Thread(target=kill_one, daemon=True).start()

    def kill_one() -> None:
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            for pid in actors()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    heard = Murderer()
    run_search(study, tmp_path / "study", observer=heard, ray="local", models_roots=[tiny_models])
    alone = Recorder()
    one = parse_study(tiny_study(sampler="random", race=False, trials=8), place="tiny.yaml")
    run_search(one, tmp_path / "alone", observer=alone, models_roots=[tiny_models])
    assert trials_of(heard) == trials_of(alone)
    assert killed, "no actor was seen at work"
    record_property("count", len(killed))
