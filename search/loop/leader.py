"""The leader's loop: baselines first, then trials until the budget is spent, then finalists, test questions, verdict.

Every outcome is stored as soon as it is there. A search that was killed is started again in the same way: the state is
folded from what is stored, trials that were in flight run again under their numbers, and the loop goes on.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.errors import SearchStoppedError, StoreError
from search.loop.dispatch import finished, scored_outside
from search.loop.stopping import candidates_left, reason_to_stop
from search.objective.constraints import Guard
from search.proposals.baseline_points import place_of
from search.proposals.baselines import make_baselines
from search.proposals.per_trial_sampler import prepare_proposals
from search.proposals.warm_start import WarmStart
from search.results.job import Job
from search.results.observer import Observer, Outlook
from search.results.outcome import Failed, Scored
from search.results.search_state import Rules, SearchState
from search.results.trial_records import Reporter
from search.results.verdict import Verdict
from search.scoring.resources import Resources
from search.space.search_space import Candidate
from search.storage.codec import unpack
from search.storage.store import Store
from search.study.study import LoadedStudy
from search.verdict.conclusion import MERGES, Conclusion, Ending
from search.workers.pool import Outcome, Pool

VERDICT = "verdict"
"""Fact of a study: its last verdict, as plain values."""
VERDICTS = "verdicts"
"""Fact of a study: after how many trials its winner was judged on the test questions, each time that was new."""


@dataclass(frozen=True)
class _InFlight:
    """A trial that a scorer has: its candidate, when it was sent, and the seconds that proposing it took."""

    candidate: Candidate
    started: float
    proposed: float


class Leader:
    """Leads one run of a study.

    Args:
        study: The study.
        store: Its store.
        resources: Objective and questions, opened when they are needed.
        pool: Scores jobs.
        observer: Hears of everything that is scored.
        warm: What the study begins with, where it was read already.
    """

    def __init__(
        self,
        study: LoadedStudy,
        store: Store,
        resources: Resources,
        pool: Pool,
        observer: Observer,
        warm: WarmStart | None = None,
    ) -> None:
        self.study = study
        self.settings = study.file.search
        self.store = store
        self.resources = resources
        self.pool = pool
        self.observer = observer
        self.reporter = Reporter(study.file.study, study.digest())
        self.baselines = make_baselines(resources.recipes, study.known)
        base = next((baseline.name for baseline in self.baselines if baseline.kind == "base"), None)
        names = tuple(baseline.name for baseline in self.baselines)
        guard = Guard(study.file.constraints, base, study.place)
        self.state = SearchState(Rules(self.settings, resources.objective, guard, names, resources.rung))
        self._warm = warm
        self._in_flight: dict[int, _InFlight] = {}
        self._began = 0.0
        self._reason: str | None = None

    def run(self) -> Verdict:
        """Do what is left of the study: baselines, trials, finalists, verdict."""
        counts, done = self._counts(), len(self.store.finished())
        if done > self.settings.trials:
            raise StoreError(
                f"search.trials: must be at least {done}, so many trials of this study are done, got "
                f"{self.settings.trials}; a budget may grow, and another study begins with another name"
            )
        metrics = [term.key for term in self.resources.objective.terms]
        names = self.state.rules.baselines
        self.observer.started(Outlook(self.study.file.study, names, self.settings.trials, done, counts, metrics))
        self._score(
            [Job(b.name, -n, b.recipe, "search", counts["search"]) for n, b in enumerate(self.baselines, start=1)]
        )
        self._teach()
        prepare_proposals(self.study, self.store, self._warm)
        reason = self._trials()
        conclusion = Conclusion(self.state, self.baselines, counts)
        self._score(conclusion.selection_jobs())
        winner = conclusion.winner(self.state.outside)
        looks = self._looks(winner.recipe.digest())
        self._score(conclusion.test_jobs(winner))
        rung = None if self.state.rules.rung is None else self.state.agreement()
        verdict = conclusion.verdict(winner, self.state.outside, Ending(counts, reason, rung, looks))
        self.store.note(VERDICT, asdict(verdict))
        self.observer.finished(verdict)
        return verdict

    def _counts(self) -> dict[str, int]:
        sets = self.resources.sets
        return {"search": len(sets.search), "selection": len(sets.selection), "test": len(sets.test)}

    def _score(self, jobs: list[Job]) -> None:
        """Score what is no trial, or recall it: baselines, finalists, test questions."""
        for job, scored, times in scored_outside(self.pool, self.store, jobs, self.resources.questions):
            self.state = self.state.with_outcome(job, scored)
            self.observer.scored(self.reporter.outside(job, scored, times))

    def _teach(self) -> None:
        """Give the samplers the baselines that lie inside the space."""
        space, known = self.study.space, self.store.learned()
        for baseline, entry in zip(self.baselines, self.state.entries, strict=True):
            for family in space.families.values():
                values, note = place_of(family, baseline), f"{baseline.name} in {family.name}"
                if values is not None and note not in known:
                    point = family.name, values
                    learned = self.state.penalised(entry.compared, stopped=False, violation=entry.violation)
                    self.store.learn(space.parameters(*point), space.distributions(*point), learned, note)

    def _trials(self) -> str:
        """Run trials until there is a reason to stop, and return it."""
        for trial, record in self.store.records(self.store.finished()):
            self._restore(trial, record)
        self._began = time.monotonic()
        for job, outcome in finished(self.pool, self._next_trial):
            self._finish(job, outcome)
        assert self._reason is not None
        return self._reason if len(self.state.entries) > len(self.baselines) else self._fruitless(self._reason)

    def _next_trial(self) -> Job | None:
        """Return the job of the next trial; None where all are in flight, or there is a reason to stop."""
        left = candidates_left(self.study, self.store)
        self._reason = reason_to_stop(self.study, self.state, left, time.monotonic() - self._began)
        in_flight = len(self._in_flight)
        if self._reason is not None or in_flight >= self.settings.trials - self.state.trials:
            return None
        if left is not None and in_flight >= left:
            return None
        clock = time.perf_counter()
        number, candidate = self.store.ask(self.study.space.suggest, self._in_flight)
        self._in_flight[number] = _InFlight(candidate, time.time(), time.perf_counter() - clock)
        return replace(self._job(number, candidate), rivals=self.state.rivals())

    def _job(self, number: int, candidate: Candidate) -> Job:
        questions = len(self.resources.questions("search"))
        return Job(f"trial {number}", number, candidate.text(), "search", questions, candidate.family)

    def _finish(self, job: Job, outcome: Outcome) -> None:
        """Store a trial that was just finished, and tell of it."""
        sent = self._in_flight.pop(job.number)
        if isinstance(outcome, Scored):
            outcome = replace(outcome, seconds=replace(outcome.seconds, propose=sent.proposed))
        record = {
            "family": job.family,
            "recipe": dict(sent.candidate.document),
            "started": sent.started,
            "ended": time.time(),
        }
        if job.rivals is not None:
            record |= {"rivals": list(job.rivals.numbers), "rung_trusted": job.rivals.rung}
        clock = time.perf_counter()
        values = self.state.sampler_values(outcome)
        self.store.tell(job.number, outcome, values, record, self.resources.questions("search"))
        if isinstance(outcome, Scored):
            outcome = replace(outcome, seconds=replace(outcome.seconds, log=time.perf_counter() - clock))
        self.state = self.state.with_outcome(job, outcome)
        self.observer.scored(self.reporter.trial(job.name, job.number, sent.candidate, outcome, times=record))
        alike = self.state.alike_failure()
        if alike is not None:
            raise SearchStoppedError(
                f"{len(self.state.failures)} candidates in a row failed in the same way, the last with: "
                f"{alike.reason}; finished trials are kept, and the same command goes on once the cause is mended"
            )

    def _restore(self, trial: FrozenTrial, record: Mapping[str, Any]) -> None:
        """Take up a trial that an earlier run finished."""
        outcome: Outcome
        if trial.state == TrialState.FAIL:
            outcome = Failed(record["reason"], record["failure"])
        else:
            outcome = unpack(record, self.resources.questions("search"))
        candidate = self.study.space.candidate(trial.params)
        job = self._job(trial.number, candidate)
        self.state = self.state.with_outcome(job, outcome, from_earlier_run=True)
        self.observer.scored(self.reporter.trial(job.name, job.number, candidate, outcome, times=record))

    def _fruitless(self, reason: str) -> str:
        """Return why the search ended where no candidate answered every question: the baselines are judged alone."""
        failures = self.state.failures
        why = f"the last failed with: {failures[-1].reason}" if failures else "the race stopped every one"
        if not self.state.trials:
            why = "none was asked for"
        if not any(baseline.kind in MERGES for baseline in self.baselines):
            raise SearchStoppedError(
                f"no candidate was scored on all questions, {why} ({reason}), and no merge among the baselines "
                "can be named instead; raise the budget, or set search.race to false"
            )
        return f"{reason}; no candidate was scored on all questions ({why}), so that the finalists are baselines alone"

    def _looks(self, winner: str) -> int:
        """Return how many verdicts of fewer trials looked at the test questions, and note that this one is about to."""
        noted = self.store.pinned(VERDICTS)
        looked = [int(trials) for trials in noted] if isinstance(noted, list) else []
        if (
            not looked
            and not self.store.holds("test", winner)
            and any(r["part"] == "test" for r in self.store.outside())
        ):
            looked.append(0)  # a verdict of a version that did not note it
        if self.state.trials not in looked:
            looked.append(self.state.trials)
            self.store.note(VERDICTS, looked)
        return sum(trials < self.state.trials for trials in looked)
