"""kill -9 of the leading process in every phase of real commands; nothing finished is lost, changed or asked again."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.leader_kills import Variant, kill_leaders
from tests.faults.phases import NAMED, PHASES

KILLS = int(os.environ.get("MERGESEARCH_KILLS", "7"))
"""Kills over the named phases; all phases get the same number."""
SEED = int(os.environ.get("MERGESEARCH_KILLS_SEED", "1"))
VARIANTS = (
    Variant("tpe", race=True, seed=1),
    Variant("random", race=False, seed=2),
    Variant("nsga2", race=True, seed=3),
    Variant("random", race=True, seed=4),
)
"""The suite runs the first of them."""


@pytest.mark.slow
def test_a_study_killed_in_every_phase_ends_as_an_undisturbed_one(
    tmp_path: Path, tiny_models: Path, record_property: Callable[[str, object], None]
) -> None:
    times = -(-KILLS // len(NAMED))
    variants = VARIANTS[: max(1, min(len(VARIANTS), times // 3))]
    found = kill_leaders(tmp_path, tiny_models, variants, times, SEED)
    assert not found.wrong, "\n".join(found.wrong)
    for phase in PHASES:
        least = times // (1 if phase in NAMED else len(variants)) // 2
        assert found.tallies[phase].kills >= least, f"{phase} was missed too often: {found.tallies[phase]}"
    record_property("count", sum(tally.kills for tally in found.tallies.values()))
    record_property("detail", f"seed {SEED}; {'; '.join(map(str, variants))}; questions asked again: {found.asked_again}")
    record_property("kills", json.dumps({phase: asdict(tally) for phase, tally in found.tallies.items()}))
