"""Scorers that are killed, hang or run out of memory: their job's time is lost, and nothing else."""

import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from search.workers.local_pool import LocalPool
from search.workers.ray_pool import RayPool
from search.workers.time_limit import TimeLimit
from tests.faults.forks import context
from tests.faults.made_up import lead
from tests.faults.scorer_kills import Killer, Losses, MadeUp, lose_scorers
from tests.search.recorder import Recorder
from tests.search.workers.test_local_pool import answers_of, trials_of

KILLS = int(os.environ.get("MERGESEARCH_SCORER_KILLS", "6"))
"""Kills of scorers; a third of them on Ray."""
SEED = int(os.environ.get("MERGESEARCH_KILLS_SEED", "1"))
Record = Callable[[str, object], None]


def settings(trials: int) -> dict[str, Any]:
    return {"trials": trials, "sampler": "random", "race": False, "seed": SEED}


def same(heard: Recorder) -> Any:
    return trials_of(heard), answers_of(heard), [verdict.digest for verdict in heard.verdicts]


def local(study: MadeUp, lines: list[str], **more: Any) -> LocalPool:
    return LocalPool(lambda: study.open, 3, say=lines.append, context=context(), **more)


def held(found: Losses, wanted: int, record: Record, what: str) -> None:
    record("count", found.kills)
    record("detail", f"{what}, seed {SEED}: {found.in_flight} jobs begun again, {found.repeated} questions")
    record("scorers", json.dumps({what: asdict(found)}))
    assert (found.asked_again, found.changed) == (0, 0), found
    assert found.kills >= max(1, wanted // 2), "the study was over too soon: the test shows nothing"


def test_processes_that_are_killed(tmp_path: Path, record_property: Record) -> None:
    wanted, lines = KILLS - KILLS // 3, list[str]()
    study = MadeUp(settings(12 + 3 * wanted), tmp_path / "questions.jsonl")
    killer = Killer(study.log, wanted, random.Random(SEED))
    found = lose_scorers(study, f"sqlite:///{tmp_path / 'study.db'}", local(study, lines), killer, same)
    assert sum("is replaced" in line for line in lines) >= found.in_flight
    held(found, wanted, record_property, "processes of this host killed")


def test_processes_that_hang(tmp_path: Path, record_property: Record) -> None:
    wanted, lines = max(1, KILLS // 10), list[str]()
    study = MadeUp(settings(12 + 6 * wanted), tmp_path / "questions.jsonl")
    killer = Killer(study.log, wanted, random.Random(SEED), signal.SIGSTOP)
    pool = local(study, lines, limit=TimeLimit(factor=10.0, least=3.0))
    found = lose_scorers(study, f"sqlite:///{tmp_path / 'study.db'}", pool, killer, same)
    assert sum("took too long" in line for line in lines) >= found.kills
    held(found, wanted, record_property, "processes of this host that hang")


def test_processes_that_run_out_of_memory(tmp_path: Path, record_property: Record) -> None:
    scarce = tuple(random.Random(SEED).sample(range(8, 28, 2), max(1, KILLS // 10)))
    study = MadeUp(settings(24), tmp_path / "questions.jsonl", scarce=scarce)
    heard = lead(f"sqlite:///{tmp_path / 'study.db'}", study.search, local(study, []))
    alone = lead(f"sqlite:///{tmp_path / 'alone.db'}", study.search)
    failed = {record.number: record.reason for record in heard.trials() if record.state == "failed"}
    assert set(failed) == set(scarce)
    assert all(str(reason).startswith("out of memory") for reason in failed.values())
    expected = trials_of(alone)
    others = {number: trial for number, trial in trials_of(heard).items() if number not in scarce}
    assert others == {number: trial for number, trial in expected.items() if number not in scarce}
    held(Losses(len(scarce), len(scarce)), 1, record_property, "processes of this host out of memory")


def test_actors_that_are_killed(tmp_path: Path, record_property: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: mergesearch[ray]")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default Ray's processes give way to all others
    wanted, lines = max(1, KILLS // 3), list[str]()
    study = MadeUp(settings(8 + 4 * wanted), tmp_path / "questions.jsonl", seconds=0.02)
    killer = Killer(study.log, wanted, random.Random(SEED), pause=2.0)
    pool = RayPool(lambda *_: study.open, "local", 2, say=lines.append)
    found = lose_scorers(study, f"sqlite:///{tmp_path / 'study.db'}", pool, killer, same)
    held(found, wanted, record_property, "Ray actors killed")
