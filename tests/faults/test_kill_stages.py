"""kill -9 inside ask, merge, scoring, tell, MLflow write, report and export, at random instants of real commands."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.stages import AFTER, SEARCH, Killer
from tests.faults.wholeness import check_files, finished_trials, results
from tests.search.studies import tiny_study

KILLS = int(os.environ.get("MERGESEARCH_KILLS", "7"))
"""Kills in all; every stage gets its part."""
QUOTA = -(-KILLS // len((*SEARCH, *AFTER)))
TRIALS = 6 if KILLS < 50 else 24
TURNS = 3
"""A stage is hit when it begins for the first, second or third time in a process."""


@pytest.mark.slow
def test_a_study_killed_in_every_stage_ends_as_an_undisturbed_one(
    tmp_path: Path, tiny_models: Path, record_property: Callable[[str, object], None]
) -> None:
    killer = Killer(random.Random(KILLS))
    search = ("search", "tiny.yaml", "--models-root", tiny_models)
    unmirrored = ("search", "plain.yaml", "--models-root", tiny_models)
    export = ("export", "runs/tiny", "--model", "merged", "--models-root", tiny_models)
    report = ("report", "runs/tiny")
    expected = undisturbed(killer, begin(tmp_path / "undisturbed"), search, report, export)
    number = 0
    while min(killer.hits.values()) < QUOTA:
        number += 1
        assert number <= 2 * KILLS, f"stages are missed too often: {killer.hits}"
        home = killer.home = begin(tmp_path / f"home{number}")
        known: dict[int, Any] = {}
        while (stages := wanted(killer, SEARCH)) and len(known) < TRIALS - 1:
            fresh = "mlflow" in stages and not (home / "mlflow.db").exists()
            stage = "mlflow" if fresh else killer.chance.choice(stages)
            turn = killer.chance.randint(1, 1 if fresh else min(TURNS, TRIALS - len(known)))
            killer.kill(stage, turn, *(search if stage == "mlflow" else unmirrored))
            known = check(home, known)
        killer.run(*search)
        for _ in range(1 + QUOTA // 6):
            for stage in wanted(killer, AFTER):
                shutil.rmtree(home / "merged", ignore_errors=True)
                killer.kill(stage, 1, *(report if stage == "report" else export))
                known = check(home, known)
        killer.run(*report)
        if not (home / "merged").exists():
            killer.run(*export)
        assert results(home, "tiny") == expected
        check_files(home)
    record_property("count", sum(killer.hits.values()))
    record_property("detail", ", ".join(f"{stage} {count}" for stage, count in killer.hits.items()))
    record_property("missed", killer.misses)


def begin(home: Path) -> Path:
    """Make a folder with the tiny study in it, and the same without a mirror, which starts sooner."""
    home.mkdir()
    study = yaml.safe_load(tiny_study(trials=TRIALS))
    for name, store in (("tiny.yaml", "sqlite:///mlflow.db"), ("plain.yaml", None)):
        (home / name).write_text(yaml.safe_dump(study | {"tracking": {"mlflow": store}}))
    return home


def undisturbed(killer: Killer, home: Path, *commands: tuple[object, ...]) -> dict[str, Any]:
    """Return what the commands leave behind when nothing happens."""
    killer.home = home
    for words in commands:
        killer.run(*words)
    check_files(home)
    return results(home, "tiny")


def wanted(killer: Killer, stages: tuple[str, ...]) -> list[str]:
    """Return the stages that were not hit often enough yet."""
    return [stage for stage in stages if killer.hits[stage] < QUOTA]


def check(home: Path, known: dict[int, Any]) -> dict[int, Any]:
    """Make sure that no file is a part and no finished trial is lost or changed; return those there are now."""
    check_files(home)
    now = finished_trials(home / "runs" / "tiny" / "study.db", "tiny")
    assert {number: now.get(number) for number in known} == known
    return now
