"""kill -9 of the leading process in every phase of real commands; nothing finished is lost, changed or asked again."""

import json
import os
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.faults.leader_kills import Variant, kill_leader
from tests.faults.phases import NAMED

KILLS = int(os.environ.get("MERGESEARCH_KILLS", "7"))
"""Kills over the named phases, all of which get the same number."""
SEED = int(os.environ.get("MERGESEARCH_KILLS_SEED", "1"))
TIMES = -(-KILLS // len(NAMED))
VARIANTS = (
    Variant("tpe", race=True, seed=1, mirrored=True),
    Variant("random", race=False, seed=2),
    Variant("nsga2", race=True, seed=3),
)[:TIMES]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_study_killed_in_every_phase_ends_as_an_undisturbed_one(
    tmp_path: Path, tiny_models: Path, variant: Variant, record_property: Callable[[str, object], None]
) -> None:
    count, place = len(VARIANTS), VARIANTS.index(variant)
    times = TIMES * (place + 1) // count - TIMES * place // count
    if TIMES < 3:
        variant = replace(variant, trials=6)
    found = kill_leader(tmp_path, tiny_models, variant, times, random.Random(f"{SEED} {variant}"))
    record_property("count", sum(tally.kills for tally in found.tallies.values()))
    record_property("detail", f"{variant}, seed of the kills {SEED}: {found.repeated.lost} questions asked again")
    tallies = {phase: asdict(tally) for phase, tally in found.tallies.items() if tally.kills}
    record_property("leader", json.dumps({str(variant): tallies}))
    assert not found.wrong, "\n".join(found.wrong)
    for phase in NAMED:
        assert found.tallies[phase].kills == times, f"{phase} was missed: {found.tallies[phase]}"
