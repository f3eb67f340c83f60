"""Several processes on one study: each trial once, the lost ones again, one that leads."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from merge.live_model import new_live_model
from merge.merger import Merger
from search.claims import Claims, Pulse
from search.errors import SearchStoppedError, StoreError
from search.interrupts import silent
from search.owners import Owner
from search.proposals.per_trial_sampler import prepare_proposals
from search.results.outcome import Failed
from search.scoring.resources import SHELF, Bench
from search.storage.store import Store
from search.study.study import parse_study
from tests.faults.forks import context
from tests.faults.made_up import Helpers, help_out, lead
from tests.merge.parents import recipe_of, write_family
from tests.search.fake import fake_study
from tests.search.recorder import Recorder
from tests.search.studies import tiny_study

SETTINGS = {"trials": 12, "sampler": "random", "race": False}
DEAD = 2.0
"""Seconds after which a heart counts as dead: a hundred beats, since a busy machine may hold a thread up for some."""


def trials_of(heard: Recorder) -> dict[int, Any]:
    """Return what each trial was and scored, and make sure that each was heard of once."""
    found = {record.number: (record.params, record.metrics, record.state) for record in heard.trials()}
    assert len(found) == len(heard.trials())
    return found


@pytest.mark.parametrize(("count", "kind"), [(4, "sqlite:///"), (2, "journal:")])
def test_several_processes_score_the_trials_that_one_would(tmp_path: Path, count: int, kind: str) -> None:
    url, alone = f"{kind}{tmp_path / 'together'}", lead(f"{kind}{tmp_path / 'alone'}", SETTINGS)
    together = lead(url, SETTINGS, Helpers(count, url, SETTINGS, 0.002))
    assert trials_of(together) == trials_of(alone)
    assert together.verdicts[0].digest == alone.verdicts[0].digest
    owners = {Owner.of(t.user_attrs["owner"]).pid for t in Store(url, fake_study(search=SETTINGS)).finished()}
    assert len(owners) > 1


class Murder(Helpers):
    """A helper that is killed in the middle of its second trial, or later."""

    def start(self) -> None:
        super().start()
        store = Store(self.arguments[0], fake_study(search=SETTINGS))
        (process,) = self.processes
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            begun = bool(store.finished())
            owners = [Owner.of(t.user_attrs["owner"]) for t in store.claims.running() if "owner" in t.user_attrs]
            mine = [owner for owner in owners if owner.pid == process.pid]
            if begun and mine:
                os.kill(process.pid, signal.SIGKILL)
                return


def test_after_a_worker_is_killed_every_trial_is_there_once_under_its_number(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    heard = lead(url, SETTINGS, Murder(1, url, SETTINGS, 0.4))
    assert trials_of(heard) == trials_of(lead(f"sqlite:///{tmp_path / 'alone.db'}", SETTINGS))
    assert [line for line in heard.lines if "is gone; its trial" in line], heard.lines


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_a_process_that_died_between_two_values_of_a_trial_changes_neither(tmp_path: Path, sampler: str) -> None:
    study = fake_study(search={**SETTINGS, "sampler": sampler})
    found = []
    for name in ("whole", "halved"):
        store = Store(f"sqlite:///{tmp_path / name}", study)
        prepare_proposals(study, store, None, leads=False)
        store.claims.open(12)
        trial = store.claims.claim()
        assert trial is not None
        if name == "halved":
            trial.suggest_float("models.a.weight", 0.0, 1.0)
            store.claims.release()
            store.claims.sweep()
            prepare_proposals(study, store, None, leads=False)
            trial = store.claims.claim()
            assert trial is not None
        found.append(study.space.suggest(trial).values)
    assert found[0] == found[1]
    assert len(set(found[0].values())) == 2


def claims_of(store: Store, host: str | None = None) -> Claims:
    me = None if host is None else Owner(host, 7)
    lock = store.claims.locked
    return Claims(store.trials, lock, far=True, me=me, pulse=Pulse(0.02, DEAD))


def test_a_process_of_another_host_lives_as_long_as_its_heart_beats(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'study.db'}", fake_study(search=SETTINGS))
    far, here = claims_of(store, "elsewhere"), claims_of(store)
    here.open(12)
    with far.beating():
        trial = far.claim()
        assert trial is not None
        until = time.monotonic() + 1.5 * DEAD
        while time.monotonic() < until:
            assert here.sweep() == []
    while not (found := here.sweep()):
        assert here.running()
    assert found == [f"process 7 on elsewhere is gone; its trial {trial.number} is run again"]
    again = here.claim()
    assert again is not None
    assert again.number == trial.number
    assert not far.holds(trial)


def test_a_result_that_comes_too_late_is_left_to_the_process_that_has_the_trial_now(tmp_path: Path) -> None:
    study = fake_study(search=SETTINGS)
    store, other = (Store(f"sqlite:///{tmp_path / 'study.db'}", study) for _ in range(2))
    store.claims.open(12)
    trial = store.claims.claim()
    assert trial is not None
    other.claims = claims_of(other, "elsewhere")
    store.claims.release()
    store.claims.sweep()
    again = other.claims.claim()
    assert again is not None
    assert again.number == trial.number
    late, good = Failed("late", "x"), Failed("in time", "x")
    assert not store.tell(trial, late, (), {}, ())
    assert other.tell(again, good, (), {}, ())
    ((_, record),) = store.records(store.finished())
    assert record["reason"] == "in time"


def test_only_one_process_leads_and_a_dead_one_is_followed(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'study.db'}", fake_study(search=SETTINGS))
    here, far, third = claims_of(store), claims_of(store, "elsewhere"), claims_of(store, "third")
    with far.leading(), pytest.raises(StoreError, match="process 7 on elsewhere runs this study; join it"):
        here._take_the_lead(silent)
    far._take_the_lead(silent)
    third.check_leader()
    lines: list[str] = []
    with here.leading(lines.append):
        assert len(lines) == 1
        third.check_leader()
    with pytest.raises(SearchStoppedError, match="nobody leads this study any more"):
        third.check_leader()


def test_trials_are_given_out_up_to_the_budget_and_brute_force_asks_each_candidate_once(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'study.db'}", fake_study(search=SETTINGS))
    claims = store.claims
    assert claims.claim() is None
    claims.open(3)
    assert claims.claim(left=0) is None
    assert claims.claim(left=1) is not None
    assert claims.claim(left=1) is None
    assert [claims.claim() is None for _ in range(3)] == [False, False, True]
    claims.close()
    assert claims.closed()


def test_a_worker_of_a_store_without_the_study_is_told_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no study 'fake' yet; start 'mergesearch search' first"):
        Store(f"sqlite:///{tmp_path / 'study.db'}", fake_study(), joining=True)


def test_a_worker_ends_when_the_process_that_leads_was_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    leader = context().Process(target=lead, args=(url, SETTINGS, None, 0.02))
    leader.start()
    store = None
    while store is None or not store.claims.opened():
        try:
            store = Store(url, fake_study(search=SETTINGS), joining=True)
        except StoreError:
            time.sleep(0.05)
    os.kill(leader.pid, signal.SIGKILL)
    leader.join()
    with pytest.raises(SearchStoppedError, match="nobody leads"):
        help_out(url, SETTINGS)
    assert trials_of(lead(url, SETTINGS)) == trials_of(lead(f"sqlite:///{tmp_path / 'alone.db'}", SETTINGS))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("several", [True, False])
def test_the_processes_of_a_host_map_parents_and_folded_adapters_and_one_alone_copies_them(
    tmp_path: Path, *, several: bool
) -> None:
    models = write_family(tmp_path / "models")
    recipe = recipe_of("ties", models={"a": {"weight": 0.5}, "base+lora": {"weight": 0.5}})
    merger = Merger((models,), shelf=tmp_path / "parents" if several else None)
    plain, model = Merger((models,)), new_live_model(merger, recipe)
    merger.merge_live(recipe, model)
    operands = [operand for group in merger._parents.groups.values() for operand in group.operands]
    spans = mapped_below(tmp_path)
    assert {any(low <= one.raw.data_ptr() < high for low, high in spans) for one in operands} == {several}
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "parents").glob("*")}
    assert bool(files) is several
    other = Merger((models,), shelf=tmp_path / "parents") if several else plain
    again = new_live_model(other, recipe)
    other.merge_live(recipe, again)
    assert files == {file: file.stat().st_mtime_ns for file in (tmp_path / "parents").glob("*")}, "folded once"
    expected = new_live_model(plain, recipe)
    plain.merge_live(recipe, expected)
    for name, value in expected.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
        assert torch.equal(value, again.state_dict()[name])


def mapped_below(folder: Path) -> list[tuple[int, int]]:
    """Return the addresses at which this process maps files of a folder."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    spans = [line.split()[0].split("-") for line in lines if f" {folder}/" in line]
    return [(int(low, 16), int(high, 16)) for low, high in spans]


def test_only_several_processes_share_and_the_one_that_leads_tidies_up(tmp_path: Path, tiny_models: Path) -> None:
    study = parse_study(tiny_study(), place="tiny")
    benches = [Bench(study, (tiny_models,), "cpu", tmp_path, share) for share in (1, 2)]
    assert [bench.merger._parents._shelf is not None for bench in benches] == [False, True]
    (tmp_path / SHELF).mkdir()
    benches[0].tidy()
    assert not (tmp_path / SHELF).exists()
