"""The loop: baselines first, then ask, merge, score, tell until the budget is spent, then the verdict.

Every step is kept in the store as soon as it is done. A run that was killed is started again in the same way: it
finds what is there, takes up the trial that was in flight with the same parameters, and goes on. Other processes may
join it (``search/workers.py``); the one that leads scores baselines and finalists and puts trials of dead ones back.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from merge.errors import RecipeError
from search.company import Company, Nobody
from search.errors import SearchStoppedError, StoreError
from search.loop.stopping import candidates_left, reason_to_stop
from search.objective.constraints import Guard
from search.objective.racing import Race, worth_of_questions
from search.objective.rung import Agreement, ranks
from search.proposals.baseline_points import place_of
from search.proposals.baselines import make_baselines
from search.proposals.per_trial_sampler import prepare_proposals
from search.proposals.warm_start import Warm
from search.results.outcome import Failed, Observer, Outlook, Scored, Verdict
from search.results.search_state import Entry, Standing
from search.results.trial_records import Reporter
from search.scoring.candidate_scorer import Rivals
from search.scoring.resources import Bench
from search.scoring.stored_scores import Outside
from search.space.search_space import Candidate
from search.storage.codec import unpack
from search.storage.store import Store
from search.study.study import LoadedStudy
from search.verdict.conclusion import MERGES, Conclusion, Ending

POLL = 0.2
"""Seconds between looks at the store while there is nothing to do."""


class Run:
    """One run of a study in this process.

    Args:
        study: The study.
        store: Its store.
        bench: Opens what scoring needs.
        observer: Hears of everything that is scored; beside the one that leads, only of what this process scores.
        warm: What the study begins with, where it was read already.
        company: Who takes part, who leads, and when to end.
    """

    def __init__(
        self,
        study: LoadedStudy,
        store: Store,
        bench: Bench,
        observer: Observer,
        warm: Warm | None = None,
        company: Company | None = None,
    ) -> None:
        self.study = study
        self.settings = study.file.search
        self.store = store
        self.bench = bench
        self.observer = observer
        self.reporter = Reporter(study.file.study, study.digest())
        self.baselines = make_baselines(bench.recipes, study.known)
        self.company = company or Company()
        self.outside = Outside(store, bench, self.reporter, self._audience(), self.company.pause.check)
        self.standing = Standing()
        base = next((baseline.name for baseline in self.baselines if baseline.kind == "base"), None)
        self.guard = Guard(study.file.constraints, base, study.place)
        self._references: dict[str, Mapping[str, float]] = {}
        self._worth: Mapping[tuple[str, str], float] = {}
        self._climbed: list[tuple[float, float]] = []
        self._warm = warm
        self._seen: set[int] = set()
        self._past = False

    def _audience(self) -> Observer:
        return self.observer if self.company.leads else Nobody()

    def to_the_end(self) -> Verdict:
        """Do what is left: baselines, trials, finalists, verdict."""
        sets = self.bench.sets
        counts = {"search": len(sets.search), "selection": len(sets.selection), "test": len(sets.test)}
        names = [baseline.name for baseline in self.baselines]
        done = len(self.store.finished())
        if done > self.settings.trials:
            raise StoreError(
                f"search.trials: must be at least {done}, so many trials of this study are done, got "
                f"{self.settings.trials}; a budget may grow, and another study begins with another name"
            )
        metrics = [term.key for term in self.bench.objective.terms]
        self.observer.started(Outlook(self.study.file.study, names, self.settings.trials, done, counts, metrics))
        self._baselines()
        reason = self._trials()
        ending = Ending(counts, reason, None if self.bench.rung is None else self.agreement)
        conclusion = Conclusion(self.settings, self.bench, self.outside, self.baselines, self.guard, self.standing.full)
        verdict = conclusion.verdict(ending)
        self.observer.finished(verdict)
        return verdict

    def help_out(self) -> int:
        """Score trials beside the process that leads, until it gives out no more; return how many that were."""
        self._baselines()
        self._catch_up(past=True)
        count = 0
        while self.store.claims.opened() is not None:
            self.company.pause.check()
            self._catch_up()
            if self._next_trial():
                count += 1
            else:
                self.store.claims.check_leader()
                time.sleep(POLL)
        return count

    @property
    def agreement(self) -> Agreement:
        """Return how well the first rung ranks what was scored so far."""
        return ranks([low for low, _ in self._climbed], [high for _, high in self._climbed])

    def _baselines(self) -> None:
        """Score the baselines, and give the samplers what is known: baselines inside the space, and warm starts."""
        answered = []
        for number, baseline in enumerate(self.baselines, start=1):
            scored = self.outside.score(baseline.name, baseline.recipe, "search", -number)
            self._references[baseline.name] = scored.metrics()
            answered.append(scored.results.answers)
            self._enter(Entry(baseline.name, "", baseline.recipe, scored.value), scored)
        if self.settings.race_order == "learned":
            self._worth = worth_of_questions(self.bench.objective, answered)
        self.standing.idle = 0
        if self.company.leads:
            self._teach()
        prepare_proposals(self.study, self.store, self._warm, leads=self.company.leads)

    def _teach(self) -> None:
        """Give the samplers the baselines that lie inside the space."""
        space, known = self.study.space, self.store.learned()
        for baseline, entry in zip(self.baselines, self.standing.full, strict=True):
            for family in space.families.values():
                values, note = place_of(family, baseline), f"{baseline.name} in {family.name}"
                if values is not None and note not in known:
                    place = family.name, values
                    told = self.standing.told(self._compared(entry), beaten=False, violation=entry.violation)
                    self.store.learn(space.parameters(*place), space.distributions(*place), told, note)

    def _trials(self) -> str:
        """Ask for candidates until there is a reason to stop, which is returned."""
        began = time.monotonic()
        self._catch_up(past=True)
        reason = self._reason(began)
        if reason is None:
            reason = self._give_out(began)
        else:
            self.store.claims.close()
        return reason if len(self.standing.full) > len(self.baselines) else self._fruitless(reason)

    def _give_out(self, began: float) -> str:
        """Give out trials, and score them, until there is a reason to stop and none runs any more."""
        with self.company.together(self.store, self.settings.trials):
            while (reason := self._reason(began)) is None:
                self._look_around()
                if not self.company.takes_part() or not self._next_trial():
                    time.sleep(POLL)
                self._catch_up()
            self.store.claims.close()
            while self.store.claims.running():
                self._look_around()
                time.sleep(POLL)
            self._catch_up()
        return reason

    def _reason(self, began: float) -> str | None:
        return reason_to_stop(self.study, self.store, self.standing, time.monotonic() - began)

    def _look_around(self) -> None:
        """End if asked to, and put the trials of dead processes back."""
        self.company.pause.check()
        for line in self.store.claims.sweep():
            self.company.say(line)

    def _next_trial(self) -> bool:
        """Score a trial if there is one to be had; tell whether there was."""
        trial = self.store.claims.claim(candidates_left(self.study, self.store))
        if trial is not None:
            self._one_trial(trial)
        return trial is not None

    def _catch_up(self, *, past: bool = False) -> None:
        """Take up the trials that an earlier run or another process finished."""
        self._past = past
        new = [frozen for frozen in self.store.finished() if frozen.number not in self._seen]
        for frozen, record in self.store.records(new):
            self._take_up(frozen, record)
        self._past = False

    def _fruitless(self, reason: str) -> str:
        """Return why the search ended where no candidate answered every question: the baselines are judged alone."""
        failures = self.standing.failures
        why = f"the last failed with: {failures[-1].reason}" if failures else "the race stopped every one"
        if not self.store.finished():
            why = "none was asked for"
        if not any(baseline.kind in MERGES for baseline in self.baselines):
            raise SearchStoppedError(
                f"no candidate was scored on all questions, {why} ({reason}), and no merge among the baselines "
                "can be named instead; raise the budget, or set search.race to false"
            )
        return f"{reason}; no candidate was scored on all questions ({why}), so that the finalists are baselines alone"

    def _one_trial(self, trial: optuna.Trial) -> None:
        """Merge, score and tell one trial."""
        started, clock = time.time(), time.perf_counter()
        candidate = self.study.space.suggest(trial)
        proposed = time.perf_counter() - clock
        outcome = self._score(candidate, proposed)
        record = {
            "family": candidate.family,
            "recipe": dict(candidate.document),
            "started": started,
            "ended": time.time(),
        }
        clock = time.perf_counter()
        if not self.store.tell(trial, outcome, self._told(outcome), record, self.bench.questions("search")):
            return
        logged = time.perf_counter() - clock
        if isinstance(outcome, Scored):
            outcome = replace(outcome, seconds=replace(outcome.seconds, log=logged))
        self._sort_in(trial.number, candidate, outcome, record, self.observer)

    def _score(self, candidate: Candidate, proposed: float) -> Scored | Failed:
        try:
            recipe = candidate.recipe()
        except RecipeError as error:
            return Failed(str(error).splitlines()[0], type(error).__name__)
        outcome = self.bench.judge.score(recipe, "search", self._rivals(), between=self.company.pause.check)
        if isinstance(outcome, Scored):
            outcome = replace(outcome, seconds=replace(outcome.seconds, propose=proposed))
        return outcome

    def _rivals(self) -> Rivals | None:
        """Return whom a candidate races against; None as long as nobody leads."""
        answers: list[pd.DataFrame] = [answers for _, answers in self.standing.leaders]
        if not self.settings.race or not answers:
            return None
        everywhere = self.settings.objective == "pareto"
        race = Race(self.bench.objective, self.settings.race_level, worth=self._worth, everywhere=everywhere)
        return Rivals(race, answers, rung=self.agreement.trusted)

    def _told(self, outcome: Scored | Failed) -> tuple[float, ...]:
        """Return the values that the sampler learns from."""
        if isinstance(outcome, Failed):
            return ()
        values = (outcome.value,) if self.settings.objective == "mean" else outcome.values
        stopped = outcome.stopped_after is not None
        return self.standing.told(values, beaten=stopped, violation=0.0 if stopped else self._violation(outcome))

    def _violation(self, scored: Scored) -> float:
        return self.guard.violation(scored.metrics(), self._references) if self.guard.bounds else 0.0

    def _take_up(self, frozen: FrozenTrial, record: dict[str, Any]) -> None:
        """Take up a trial that an earlier run or another process finished."""
        candidate = self.study.space.candidate(frozen.params)
        failed = frozen.state == TrialState.FAIL
        outcome: Scored | Failed = (
            Failed(record["reason"], record["failure"]) if failed else unpack(record, self.bench.questions("search"))
        )
        self._sort_in(frozen.number, candidate, outcome, record, self._audience())

    def _sort_in(
        self,
        number: int,
        candidate: Candidate,
        outcome: Scored | Failed,
        record: dict[str, Any],
        audience: Observer,
    ) -> None:
        """Tell of a finished trial and take it up into the standing."""
        name = f"trial {number}"
        self._seen.add(number)
        audience.scored(self.reporter.trial(name, number, candidate, outcome, times=record))
        self.standing.idle += 1
        if isinstance(outcome, Failed):
            self.standing.fail(outcome, past=self._past)
            return
        self.standing.failures.clear()
        if outcome.stopped_after is None:
            self._enter(Entry(name, candidate.family, candidate.text(), outcome.value), outcome)

    def _enter(self, entry: Entry, scored: Scored) -> None:
        """Take up what answered every question, with what is compared and how far it misses the constraints."""
        results, rung = scored.results, self.bench.rung
        values = self.bench.objective.values(results) if self.settings.objective == "pareto" else ()
        if rung is not None:
            self._climbed.append((rung.value(results), scored.value))
        leads = bool(entry.family) or self.settings.race_against == "everyone"
        self.standing.enter(replace(entry, values=values, violation=self._violation(scored)), results, leads=leads)

    @staticmethod
    def _compared(entry: Entry) -> tuple[float, ...]:
        return entry.values or (entry.value,)
