"""Hands jobs to a pool, as many as it has scorers, and goes through what they finish."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evals.tasks.sampling import Question
from search.errors import SearchStoppedError
from search.results.job import Job
from search.results.outcome import Failed, Part, Scored
from search.storage.store import Store
from search.workers.pool import Outcome, Pool


def finished(pool: Pool, next_job: Callable[[], Job | None]) -> Iterator[tuple[Job, Outcome]]:
    """Keep every scorer busy, and go through the outcomes as they come.

    Args:
        pool: The scorers.
        next_job: Returns the next job; None as long as there is none, and for good once none is in flight.
    """
    in_flight = 0
    while True:
        while in_flight == 0 or in_flight < pool.size:
            job = next_job()
            if job is None:
                break
            pool.submit(job)
            in_flight += 1
        if not in_flight:
            return
        outcome = pool.next_finished()
        in_flight -= 1
        yield outcome


def scored_outside(
    pool: Pool, store: Store, jobs: Sequence[Job], questions: Callable[[Part], Sequence[Question]]
) -> Iterator[tuple[Job, Scored, Mapping[str, Any]]]:
    """Score what is no trial (baselines, finalists, the verdict), or recall what it scored, in the order of the jobs.

    Args:
        pool: The scorers.
        store: Keeps what they answer, and has what was answered before.
        jobs: What to score.
        questions: Returns the questions of a part.

    Returns:
        Each job, what it scored, and its record with the times.

    Raises:
        SearchStoppedError: One cannot be scored; the others' answers are kept.
    """
    keys = [(job.part, job.digest()) for job in jobs]
    first = dict(zip(reversed(keys), reversed(jobs), strict=True))
    left = deque((key, job) for key, job in zip(keys, jobs, strict=True) if first[key] is job and not store.holds(*key))
    started: dict[tuple[Part, str], float] = {}
    delivered = 0

    def next_job() -> Job | None:
        if not left:
            return None
        key, job = left.popleft()
        started[key] = time.time()
        return job

    def in_order() -> Iterator[tuple[Job, Scored, Mapping[str, Any]]]:
        nonlocal delivered
        while delivered < len(jobs):
            recalled = store.recall(*keys[delivered], questions(jobs[delivered].part))
            if recalled is None:
                return
            yield jobs[delivered], *recalled
            delivered += 1

    yield from in_order()
    for job, outcome in finished(pool, next_job):
        if isinstance(outcome, Failed):
            raise SearchStoppedError(f"{job.name}: cannot be scored on {job.part} questions: {outcome.reason}")
        key = job.part, job.digest()
        store.remember(*key, outcome, questions(job.part), _facts(job, started[key]))
        yield from in_order()


def _facts(job: Job, started: float) -> dict[str, Any]:
    return {
        "name": job.name,
        "number": job.number,
        "family": job.family,
        "recipe": job.plain().to_mapping(),
        "started": started,
        "ended": time.time(),
    }
