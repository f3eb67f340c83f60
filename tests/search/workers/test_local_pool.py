"""Scorers in processes: the same trials for any number of them; lost ones are replaced, and cost their job's time."""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from evals.tasks.sampling import Question
from search.errors import SearchStoppedError, StudyError
from search.results.job import Job
from search.results.outcome import Failed, Scored
from search.workers.local_pool import LocalPool, sendable
from search.workers.pool import Outcome
from search.workers.time_limit import TimeLimit
from tests.faults.made_up import lead, open_made_up, processes, quick_limit, resources_of
from tests.search.fake import fake_study
from tests.search.recorder import Recorder

SETTINGS = {"trials": 12, "sampler": "random", "race": False}


def trials_of(heard: Recorder) -> dict[int, Any]:
    """Return what each trial was and scored, and make sure that each was heard of once."""
    found = {record.number: (record.params, record.metrics, record.state) for record in heard.trials()}
    assert len(found) == len(heard.trials())
    return found


def answers_of(heard: Recorder) -> list[Any]:
    """Return every answer of every scoring, in the order of names."""
    found = []
    for record in heard.records:
        assert record.results is not None
        table = record.results.answers.sort_values(["task", "question", "metric"])
        found.append((record.name, record.part, record.number, table.to_numpy().tolist()))
    return sorted(found, key=lambda one: one[:3])


@pytest.mark.parametrize(("count", "kind"), [(4, "sqlite:///"), (2, "journal:")])
def test_several_scorers_give_the_trials_and_answers_of_one(tmp_path: Path, count: int, kind: str) -> None:
    alone = lead(f"{kind}{tmp_path / 'alone'}", SETTINGS)
    together = lead(f"{kind}{tmp_path / 'together'}", SETTINGS, processes(count, SETTINGS, 0.002))
    assert trials_of(together) == trials_of(alone)
    assert answers_of(together) == answers_of(alone)
    assert together.verdicts == alone.verdicts


class Faulty:
    """A scorer that does something else the first time that a job of a name comes, or every time."""

    def __init__(self, inner: Any, name: str, mark: Path | None, fault: Any) -> None:
        self.inner, self.name, self.mark, self.fault = inner, name, mark, fault

    def score(self, job: Job, between: Any = None) -> Outcome:
        if job.name == self.name and job.part == "search" and not (self.mark and self.mark.exists()):
            if self.mark is not None:
                self.mark.touch()
            self.fault()
        outcome: Scored | Failed = self.inner.score(job, between)
        return outcome


def open_faulty(name: str, mark: Path | None, fault: Any, number: int) -> Faulty:
    return Faulty(open_made_up(SETTINGS, 0.0, number), name, mark, fault)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs() -> None:
    time.sleep(1000)


@pytest.mark.parametrize("name", ["trial 5", "a"])
@pytest.mark.parametrize("fault", [killed, hangs])
def test_a_scorer_that_is_killed_or_hangs_is_replaced_and_its_job_runs_again(
    tmp_path: Path, name: str, fault: Any
) -> None:
    heard = Recorder()
    opens = partial(open_faulty, name, tmp_path / "mark", fault)
    pool = processes(2, SETTINGS, opens=opens, say=heard.lines.append, limit=quick_limit())
    lead(f"sqlite:///{tmp_path / 'study.db'}", SETTINGS, pool, heard=heard)
    assert trials_of(heard) == trials_of(lead(f"sqlite:///{tmp_path / 'alone.db'}", SETTINGS))
    (line,) = heard.lines
    assert "is replaced: its process" in line
    assert line.endswith(f"in {name}")


def test_a_job_that_kills_every_scorer_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    heard = Recorder()
    pool = processes(2, SETTINGS, opens=partial(open_faulty, "trial 5", None, killed), say=heard.lines.append)
    lead(f"sqlite:///{tmp_path / 'study.db'}", SETTINGS, pool, heard=heard)
    states = {record.number: record.state for record in heard.trials()}
    assert [number for number, state in states.items() if state == "failed"] == [5]
    assert len(states) == 12
    (failed,) = (record for record in heard.trials() if record.state == "failed")
    assert failed.reason == "trial 5 ended 3 scorers, the last one with exit code -9"
    assert len(heard.lines) == 3


def broken(number: int) -> Any:
    raise StudyError("tiny.yaml: no such model")


def test_an_error_of_a_scorer_ends_the_search_as_it_would_in_one_process(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"tiny.yaml: no such model"):
        lead(f"sqlite:///{tmp_path / 'study.db'}", SETTINGS, processes(2, SETTINGS, opens=broken))


class Odd(Exception):  # noqa: N818 - an error that cannot be sent
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def test_an_error_that_cannot_be_sent_is_told_by_another() -> None:
    told = sendable(Odd("this", "that"), 3)
    assert isinstance(told, SearchStoppedError)
    assert str(told) == "scorer 3: Odd: this and that"
    assert isinstance(sendable(StudyError("x"), 0), StudyError)


def test_a_time_limit_is_judged_by_the_finished_jobs() -> None:
    limit, few, many = TimeLimit(factor=10, least=5), job_of(10), job_of(1000)
    assert not limit.exceeded(many, 1e9)
    limit.learn(few, 1.0)
    assert (limit.exceeded(few, 9.0), limit.exceeded(few, 11.0)) == (False, True)
    assert (limit.exceeded(many, 999.0), limit.exceeded(many, 1001.0)) == (False, True)


def job_of(questions: int) -> Job:
    space = fake_study().space
    text = space.candidate({"models.a.weight": 0.5, "models.b.weight": 0.5}).text()
    return Job("trial 0", 0, text, "search", questions)


def test_ctrl_c_ends_the_search_and_every_process(tmp_path: Path) -> None:
    asked = iter(range(1000))

    def check() -> None:
        if next(asked) > 20:
            raise KeyboardInterrupt

    pool: LocalPool = processes(2, SETTINGS, 0.01, check=check)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(KeyboardInterrupt):
        lead(url, SETTINGS, pool)
    assert pool._processes == []
    assert trials_of(lead(url, SETTINGS)) == trials_of(lead(f"sqlite:///{tmp_path / 'alone.db'}", SETTINGS))


def test_a_stopped_trial_was_stopped_by_the_rule_that_its_record_holds(tmp_path: Path) -> None:
    from search.loop.leader import Leader
    from search.storage.codec import unpack
    from search.storage.store import Store

    settings = {"trials": 24, "sampler": "random"}
    url, study = f"sqlite:///{tmp_path / 'study.db'}", fake_study(search=settings)
    heard = lead(url, settings, processes(3, settings, 0.001))
    assert {record.state for record in heard.trials()} == {"complete", "stopped"}
    store, resources = Store(url, study), resources_of(study)
    questions: tuple[Question, ...] = resources.questions("search")
    leader = Leader(study, store, resources, processes(1, settings), Recorder())
    leader.run()
    by_number: dict[int, Any] = {}
    for heard_of in heard.records:
        if heard_of.part == "search" and heard_of.results is not None:
            by_number[heard_of.number] = heard_of.results.answers
    for frozen, record in store.records(store.finished()):
        scored = unpack(record, questions)
        race = leader.state.rivals().race  # type: ignore[union-attr]
        blocks, asked = race.plan(questions, {}), 0
        for block in blocks:
            asked += len(block)
            names = {question.id for earlier in blocks[: blocks.index(block) + 1] for question in earlier}
            table = scored.results.answers
            if asked > (scored.stopped_after or len(questions)) or asked == len(questions):
                break
            so_far = table[table["question"].isin(names)]
            lost = any(race.lost(so_far, by_number[number]) for number in record["rivals"])
            assert lost == (scored.stopped_after == asked), frozen.number
