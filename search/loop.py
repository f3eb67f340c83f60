"""The loop: baselines first, then ask, merge, score, tell until the budget is spent, then the verdict.

Every step is kept in the store as soon as it is done. A run that was killed is started again in the same way: it
finds what is there, takes up the trial that was in flight with the same parameters, and goes on.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from merge.recipe import Recipe
from optuna.trial import FrozenTrial, TrialState

from search.baselines import make_baselines
from search.bench import Bench
from search.errors import SearchStoppedError, StoreError
from search.finalists import best_parent, compare, name_winner, order_finalists
from search.race import Race, value_of_stopped
from search.records import Failed, Observer, Outlook, Part, Scored, Seconds, TrialRecord, Verdict
from search.samplers import SamplerContext, make_sampler
from search.space import Candidate
from search.store import RECORD, Store, default_url, unpack
from search.study import LoadedStudy

PATIENCE = 3
"""So many failures of one kind in a row stop the search: the next would fail too."""


def run_search(
    study: LoadedStudy, folder: Path, *, observer: Observer, models_roots: Sequence[Path] = (), device: str = "cpu"
) -> Verdict:
    """Run a study, or what is left of it, to its verdict.

    Args:
        study: The study.
        folder: Its folder; made if missing.
        observer: Hears of everything that is scored.
        models_roots: Folders in which model names are looked up.
        device: Where the live model runs.

    Raises:
        StoreError: The store holds another study, or another process runs this one.
        SearchStoppedError: Candidates fail one after the other.
        merge.errors.MergeError: A parent is missing or does not fit.
        evals.errors.EvalError: A task, a metric or the data are wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder):
        store = Store(study.file.store or default_url(folder), study)
        return _Run(study, store, Bench(study, store, models_roots, device), observer).to_the_end()


@dataclass
class _Entry:
    """A scored recipe with the names that people know it by."""

    name: str
    recipe: Recipe
    scored: Scored
    family: str = ""


class _Run:
    """One run of a study in this process."""

    def __init__(self, study: LoadedStudy, store: Store, bench: Bench, observer: Observer) -> None:
        self.study = study
        self.settings = study.file.search
        self.store = store
        self.bench = bench
        self.observer = observer
        self.baselines = make_baselines(bench.recipes, study.known)
        self.deadline = None
        if self.settings.max_hours is not None:
            self.deadline = time.monotonic() + 3600 * self.settings.max_hours

    def to_the_end(self) -> Verdict:
        done = len(self.store.finished())
        sets = self.bench.sets
        counts = {"search": len(sets.search), "selection": len(sets.selection), "test": len(sets.test)}
        names = [baseline.name for baseline in self.baselines]
        self.observer.started(Outlook(self.study.file.study, names, self.settings.trials, done, counts))
        before = [self._outside(b.name, b.recipe, "search", "baseline", -1 - i) for i, b in enumerate(self.baselines)]
        self._teach(before)
        trials = self._trials(before)
        verdict = self._conclude(trials, counts)
        self.observer.finished(verdict)
        return verdict

    def _outside(self, name: str, recipe: Recipe, part: Part, kind: str, number: int, family: str = "") -> _Entry:
        """Score a recipe outside the search, or recall what it scored."""
        questions = self.bench.questions(part)
        digest = recipe.digest()
        found = self.store.recall(part, digest, questions)
        started = time.time()
        if found is None:
            outcome = self.bench.judge.score(recipe, part)
            if isinstance(outcome, Failed):
                raise SearchStoppedError(f"{kind} {name}: cannot be scored: {outcome.reason}")
            times = {"name": name, "started": started, "ended": time.time()}
            self.store.remember(part, digest, outcome, questions, times)
            found = outcome, times
        scored, times = found
        self.observer.scored(
            self._record(
                name,
                recipe,
                scored,
                kind=kind,
                number=number,
                part=part,
                family=family,
                started=times["started"],
                ended=times["ended"],
            )
        )
        return _Entry(name, recipe, scored, family)

    def _teach(self, baselines: Sequence[_Entry]) -> None:
        """Give the samplers what is known: baselines inside the space, and the middle of each family to try."""
        known = self.store.learned()
        space = self.study.space
        for entry in baselines:
            place = space.encode(entry.recipe.to_mapping())
            if place is not None and entry.name not in known:
                self.store.learn(space.parameters(*place), space.distributions(*place), entry.scored.value, entry.name)
        for family in space.families.values():
            middle = space.parameters(family.name, family.middle())
            self.store.trials.enqueue_trial(middle, skip_if_exists=True)

    def _trials(self, baselines: Sequence[_Entry]) -> list[_Entry]:
        """Ask for candidates until the budget is spent; return those that answered every question."""
        full: list[_Entry] = []
        failures: list[str] = []
        finished = self.store.finished()
        for frozen in finished:
            self._take(frozen, full, failures)
        left = self.settings.trials - len(finished)
        waiting = self.store.abandoned()
        while left > 0 and not self._out_of_time():
            trial = self._ask(waiting.pop(0) if waiting else None)
            self._one_trial(trial, [*baselines, *full], full, failures)
            left -= 1
        if not full:
            raise SearchStoppedError(
                "no candidate was scored on all questions: raise search.trials, or set search.race to false"
                if not failures
                else f"every candidate failed, the last with: {failures[-1]}"
            )
        return full

    def _ask(self, abandoned: FrozenTrial | None) -> optuna.Trial:
        """Return a new trial, or the one that a killed run left behind, with a sampler seeded by its number."""
        if abandoned is None:
            trial = self.store.trials.ask()
        else:
            trial = optuna.Trial(self.store.trials, abandoned._trial_id)
        seed = int(np.random.SeedSequence((self.settings.seed, trial.number)).generate_state(1)[0])
        context = SamplerContext(self.study.space, self.settings.trials, seed, self.settings.seed)
        self.store.trials.sampler = make_sampler(self.settings.sampler, context, self.settings.sampler_args)
        return trial

    def _one_trial(
        self, trial: optuna.Trial, rivals: Sequence[_Entry], full: list[_Entry], failures: list[str]
    ) -> None:
        started, clock = time.time(), time.perf_counter()
        self.store.own(trial)
        candidate = self.study.space.suggest(trial)
        proposed = time.perf_counter() - clock
        best = max(rivals, key=lambda entry: entry.scored.value)
        race = Race(self.bench.judge.objective, self.settings.race_level) if self.settings.race else None
        outcome = self.bench.judge.score(candidate.recipe, "search", race, best.scored.results.answers)
        told = 0.0
        if isinstance(outcome, Scored):
            outcome = replace(outcome, seconds=replace(outcome.seconds, propose=proposed))
            told = outcome.value
            if outcome.stopped_after is not None:
                told = value_of_stopped(outcome.value, min(entry.scored.value for entry in rivals))
        record = {
            "family": candidate.family,
            "recipe": candidate.recipe.to_mapping(),
            "started": started,
            "ended": time.time(),
        }
        clock = time.perf_counter()
        self.store.tell(trial, outcome, told, record, self.bench.questions("search"))
        self._announce(trial.number, candidate, outcome, record, time.perf_counter() - clock)
        self._sort_in(trial.number, candidate, outcome, full, failures)

    def _take(self, frozen: FrozenTrial, full: list[_Entry], failures: list[str]) -> None:
        """Take up a trial that an earlier run finished."""
        record = frozen.user_attrs[RECORD]
        candidate = self.study.space.candidate(frozen.params)
        outcome: Scored | Failed
        if frozen.state == TrialState.FAIL:
            outcome = Failed(record["reason"], record["failure"])
        else:
            outcome = unpack(record, self.bench.questions("search"))
        self._announce(frozen.number, candidate, outcome, record, 0.0)
        self._sort_in(frozen.number, candidate, outcome, full, failures)

    def _sort_in(
        self, number: int, candidate: Candidate, outcome: Scored | Failed, full: list[_Entry], failures: list[str]
    ) -> None:
        if isinstance(outcome, Scored):
            failures.clear()
            if outcome.stopped_after is None:
                full.append(_Entry(f"trial {number}", candidate.recipe, outcome, candidate.family))
            return
        failures.append(f"{outcome.kind}: {outcome.reason}")
        kinds = [failure.split(":", 1)[0] for failure in failures[-PATIENCE:]]
        if len(kinds) == PATIENCE and len(set(kinds)) == 1:
            raise SearchStoppedError(
                f"{PATIENCE} candidates in a row failed in the same way, the last with: {outcome.reason}; finished "
                "trials are kept, and the same command goes on after the cause is mended"
            )

    def _conclude(self, trials: Sequence[_Entry], counts: Mapping[str, int]) -> Verdict:
        """Name the winner on the selection questions and judge it on the test questions."""
        by_name = {entry.name: entry for entry in trials}
        values = {entry.name: entry.scored.value for entry in trials}
        finalists = order_finalists(_distinct(trials, values), self.settings.finalists)
        base = -1 - len(self.baselines)
        selected = {
            name: self._outside(name, by_name[name].recipe, "selection", "finalist", base - i, by_name[name].family)
            for i, name in enumerate(finalists)
        }
        winner = by_name[name_winner({n: e.scored.value for n, e in selected.items()}, values)]
        tested = self._outside(winner.name, winner.recipe, "test", "finalist", base - len(finalists), winner.family)
        opponents = {
            b.name: self._outside(b.name, b.recipe, "test", "baseline", -1 - i).scored
            for i, b in enumerate(self.baselines)
        }
        return self._verdict(winner, tested, opponents, counts)

    def _verdict(
        self, winner: _Entry, tested: _Entry, opponents: Mapping[str, Scored], counts: Mapping[str, int]
    ) -> Verdict:
        objective = self.bench.objective
        parents = [b.name for b in self.baselines if b.kind == "parent"]
        best = best_parent({name: scored.value for name, scored in opponents.items()}, parents)
        comparisons = compare(objective, tested.scored, opponents, seed=self.settings.seed)
        comparisons.sort(key=lambda comparison: comparison.opponent != best)
        scores = {winner.name: _scores(tested.scored), **{n: _scores(s) for n, s in opponents.items()}}
        directions = {key: score.higher_is_better for key, score in tested.scored.results.scores.items()}
        return Verdict(
            winner=winner.name,
            family=winner.family,
            recipe=winner.recipe.to_mapping(),
            recipe_yaml=winner.recipe.to_yaml(),
            digest=winner.recipe.digest(),
            search_value=winner.scored.value,
            test_value=tested.scored.value,
            best_parent=best,
            comparisons=tuple(comparisons),
            scores=scores,
            higher_is_better={"objective": True, **directions},
            counts=counts,
        )

    def _announce(
        self, number: int, candidate: Candidate, outcome: Scored | Failed, record: Mapping[str, object], logged: float
    ) -> None:
        name = f"trial {number}"
        started, ended = float(str(record["started"])), float(str(record["ended"]))
        if isinstance(outcome, Failed):
            failed = self._record(
                name,
                candidate.recipe,
                None,
                kind="trial",
                number=number,
                part="search",
                family=candidate.family,
                started=started,
                ended=ended,
            )
            self.observer.scored(replace(failed, params=candidate.values, reason=outcome.reason))
            return
        seconds = replace(outcome.seconds, log=logged)
        scored = self._record(
            name,
            candidate.recipe,
            replace(outcome, seconds=seconds),
            kind="trial",
            number=number,
            part="search",
            family=candidate.family,
            started=started,
            ended=ended,
        )
        self.observer.scored(replace(scored, params=candidate.values))

    def _record(
        self,
        name: str,
        recipe: Recipe,
        scored: Scored | None,
        *,
        kind: str,
        number: int,
        part: Part,
        family: str,
        started: float,
        ended: float,
    ) -> TrialRecord:
        stopped = scored is not None and scored.stopped_after is not None
        assert kind in ("baseline", "trial", "finalist")
        return TrialRecord(
            study=self.study.file.study,
            study_id=self.study.digest(),
            number=number,
            name=name,
            family=family,
            kind=kind,
            params={},
            metrics={} if scored is None else _scores(scored),
            recipe_yaml=recipe.to_yaml(),
            state="failed" if scored is None else "stopped" if stopped else "complete",
            reason=f"stopped by the race after {scored.stopped_after} questions" if stopped and scored else None,
            started=started,
            ended=ended,
            parts=(Seconds() if scored is None else scored.seconds).as_dict(),
            part=part,
            results=None if scored is None else scored.results,
        )

    def _out_of_time(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline


def answers_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return every answer of many records in one table: name, part, task, question, metric, value."""
    frames = [
        record.results.answers.assign(name=record.name, part=record.part)
        for record in records
        if record.results is not None
    ]
    columns = ["name", "part", "task", "leaf", "question", "metric", "value", "weight"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _scores(scored: Scored) -> dict[str, float]:
    return {"objective": scored.value, **{name: score.value for name, score in scored.results.scores.items()}}


def _distinct(trials: Sequence[_Entry], values: Mapping[str, float]) -> dict[str, float]:
    """Return one name per recipe: a sampler may propose the same one twice."""
    first = {entry.recipe.digest(): entry.name for entry in reversed(trials)}
    return {name: values[name] for name in sorted(first.values(), key=list(values).index)}


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the operating system lets go of when the process dies."""
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(f"{folder}: another process runs this study; wait for it or stop it") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
