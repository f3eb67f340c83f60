"""The loop: baselines first, then ask, merge, score, tell until the budget is spent, then the verdict.

Every step is kept in the store as soon as it is done. A run that was killed is started again in the same way: it
finds what is there, takes up the trial that was in flight with the same parameters, and goes on.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from merge.errors import RecipeError
from merge.recipe import Recipe
from search.baselines import make_baselines
from search.bench import Bench
from search.errors import SearchStoppedError, StoreError
from search.finalists import best_parent, compare, name_winner, order_finalists
from search.race import Race, value_of_stopped
from search.records import Failed, Observer, Outlook, Part, Scored, Verdict
from search.report import Reporter
from search.samplers import SamplerContext, make_sampler
from search.space import Candidate
from search.standing import Entry, Standing, distinct
from search.store import RECORD, Store, default_url, unpack
from search.study import LoadedStudy


def run_search(
    study: LoadedStudy,
    folder: Path,
    *,
    observer: Observer,
    models_roots: Sequence[Path] = (),
    device: str = "cpu",
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
    bench = Bench(study, models_roots, device)
    if not folder.exists():
        bench.check()
    with _only_one(folder):
        store = Store(study.file.store or default_url(folder), study)
        bench.use(store)
        return _Run(study, store, bench, observer).to_the_end()


class _Run:
    """One run of a study in this process."""

    def __init__(self, study: LoadedStudy, store: Store, bench: Bench, observer: Observer) -> None:
        self.study = study
        self.settings = study.file.search
        self.store = store
        self.bench = bench
        self.observer = observer
        self.reporter = Reporter(study.file.study, study.digest())
        self.baselines = make_baselines(bench.recipes, study.known)
        self.standing = Standing()

    def to_the_end(self) -> Verdict:
        """Do what is left: baselines, trials, finalists, verdict."""
        sets = self.bench.sets
        counts = {"search": len(sets.search), "selection": len(sets.selection), "test": len(sets.test)}
        names = [baseline.name for baseline in self.baselines]
        done = len(self.store.finished())
        metrics = [term.key for term in self.bench.objective.terms]
        self.observer.started(Outlook(self.study.file.study, names, self.settings.trials, done, counts, metrics))
        self._baselines()
        trials = self._trials()
        verdict = self._conclude(trials, counts)
        self.observer.finished(verdict)
        return verdict

    def _outside(self, name: str, recipe: Recipe, part: Part, number: int, family: str = "") -> Scored:
        """Score a recipe outside the search, or recall what it scored."""
        questions = self.bench.questions(part)
        digest = recipe.digest()
        found = self.store.recall(part, digest, questions)
        if found is None:
            started = time.time()
            outcome = self.bench.judge.score(recipe, part)
            if isinstance(outcome, Failed):
                raise SearchStoppedError(f"{name}: cannot be scored on {part} questions: {outcome.reason}")
            facts = {
                "name": name,
                "number": number,
                "family": family,
                "recipe": recipe.to_mapping(),
                "started": started,
                "ended": time.time(),
            }
            self.store.remember(part, digest, outcome, questions, facts)
            found = outcome, facts
        scored, times = found
        record = self.reporter.outside(name, recipe, scored, part=part, number=number, family=family, times=times)
        self.observer.scored(record)
        return scored

    def _baselines(self) -> None:
        """Score the baselines, and give the samplers what is known: those inside the space, and each middle."""
        space = self.study.space
        known = self.store.learned()
        for number, baseline in enumerate(self.baselines, start=1):
            scored = self._outside(baseline.name, baseline.recipe, "search", -number)
            self.standing.enter(Entry(baseline.name, "", baseline.recipe, scored.value), scored.results.answers)
            place = space.encode(baseline.recipe.to_mapping())
            if place is not None and baseline.name not in known:
                self.store.learn(space.parameters(*place), space.distributions(*place), scored.value, baseline.name)
        for family in space.families.values():
            self.store.trials.enqueue_trial(space.parameters(family.name, family.middle()), skip_if_exists=True)

    def _trials(self) -> list[Entry]:
        """Ask for candidates until the budget is spent; return those that answered every question."""
        began = time.monotonic()
        finished = self.store.finished()
        for frozen in finished:
            self._take_up(frozen)
        waiting = self.store.abandoned()
        for _ in range(self.settings.trials - len(finished)):
            if self.settings.max_hours is not None and time.monotonic() - began > 3600 * self.settings.max_hours:
                break
            self._one_trial(self._ask(waiting.pop(0) if waiting else None))
        trials = self.standing.full[len(self.baselines) :]
        if not trials:
            failures = self.standing.failures
            raise SearchStoppedError(
                f"every candidate failed, the last with: {failures[-1].reason}"
                if failures
                else "no candidate was scored on all questions; raise search.trials, or set search.race to false"
            )
        return trials

    def _ask(self, abandoned: FrozenTrial | None) -> optuna.Trial:
        """Return a new trial, or the one that a killed run left behind, with a sampler seeded by its number."""
        study = self.store.trials
        trial = study.ask() if abandoned is None else optuna.Trial(study, abandoned._trial_id)
        seed = int(np.random.SeedSequence((self.settings.seed, trial.number)).generate_state(1)[0])
        context = SamplerContext(self.study.space, self.settings.trials, seed, self.settings.seed)
        study.sampler = make_sampler(self.settings.sampler, context, self.settings.sampler_args)
        return trial

    def _one_trial(self, trial: optuna.Trial) -> None:
        """Merge, score and tell one trial."""
        started, clock = time.time(), time.perf_counter()
        self.store.own(trial)
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
        self.store.tell(trial, outcome, self._told(outcome), record, self.bench.questions("search"))
        logged = time.perf_counter() - clock
        if isinstance(outcome, Scored):
            outcome = replace(outcome, seconds=replace(outcome.seconds, log=logged))
        self._sort_in(trial.number, candidate, outcome, record)

    def _score(self, candidate: Candidate, proposed: float) -> Scored | Failed:
        try:
            recipe = candidate.recipe()
        except RecipeError as error:
            return Failed(str(error).splitlines()[0], type(error).__name__)
        race = Race(self.bench.objective, self.settings.race_level) if self.settings.race else None
        leader = None if self.standing.leader is None else self.standing.leader[1]
        outcome = self.bench.judge.score(recipe, "search", race, leader)
        if isinstance(outcome, Scored):
            outcome = replace(outcome, seconds=replace(outcome.seconds, propose=proposed))
        return outcome

    def _told(self, outcome: Scored | Failed) -> float:
        """Return the value that the sampler learns from."""
        if isinstance(outcome, Failed):
            return 0.0
        return outcome.value if outcome.stopped_after is None else value_of_stopped(outcome.value, self.standing.worst)

    def _take_up(self, frozen: FrozenTrial) -> None:
        """Take up a trial that an earlier run finished."""
        record = frozen.user_attrs[RECORD]
        candidate = self.study.space.candidate(frozen.params)
        failed = frozen.state == TrialState.FAIL
        outcome: Scored | Failed = (
            Failed(record["reason"], record["failure"]) if failed else unpack(record, self.bench.questions("search"))
        )
        self._sort_in(frozen.number, candidate, outcome, record)

    def _sort_in(self, number: int, candidate: Candidate, outcome: Scored | Failed, record: dict[str, Any]) -> None:
        """Tell the observer of a finished trial and take it up into the standing."""
        name = f"trial {number}"
        self.observer.scored(self.reporter.trial(name, number, candidate, outcome, times=record))
        if isinstance(outcome, Failed):
            self.standing.fail(outcome)
            return
        self.standing.failures.clear()
        if outcome.stopped_after is None:
            entry = Entry(name, candidate.family, candidate.recipe(), outcome.value)
            self.standing.enter(entry, outcome.results.answers)

    def _conclude(self, trials: Sequence[Entry], counts: dict[str, int]) -> Verdict:
        """Name the winner on the selection questions and judge it on the test questions.

        Finalists are the best trials and every merge among the baselines: those were not picked by their search
        score, and a search that found nothing better must say so.
        """
        by_name = {entry.name: entry for entry in distinct(trials)}
        ranked = order_finalists({name: entry.value for name, entry in by_name.items()}, self.settings.finalists)
        merges = {b.name for b in self.baselines if b.kind in ("merge", "known")}
        finalists = [by_name[name] for name in ranked]
        finalists += [entry for entry in self.standing.full[: len(self.baselines)] if entry.name in merges]
        first = -1 - len(self.baselines)
        selected = {
            entry.name: self._outside(entry.name, entry.recipe, "selection", first - rank, entry.family).value
            for rank, entry in enumerate(finalists)
        }
        chosen = name_winner(selected, {entry.name: entry.value for entry in finalists})
        winner = next(entry for entry in finalists if entry.name == chosen)
        tested = self._outside(winner.name, winner.recipe, "test", first - finalists.index(winner), winner.family)
        opponents = {
            baseline.name: self._outside(baseline.name, baseline.recipe, "test", -rank)
            for rank, baseline in enumerate(self.baselines, start=1)
            if baseline.name != winner.name
        }
        return self._verdict(winner, tested, opponents, counts)

    def _verdict(self, winner: Entry, tested: Scored, opponents: dict[str, Scored], counts: dict[str, int]) -> Verdict:
        values = {name: scored.value for name, scored in opponents.items()}
        strongest = best_parent(values, [b.name for b in self.baselines if b.kind == "parent"])
        comparisons = compare(self.bench.objective, tested, opponents, seed=self.settings.seed)
        directions = {name: score.higher_is_better for name, score in tested.results.scores.items()}
        return Verdict(
            winner=winner.name,
            family=winner.family,
            recipe=winner.recipe.to_mapping(),
            recipe_yaml=winner.recipe.to_yaml(),
            digest=winner.recipe.digest(),
            search_value=winner.value,
            test_value=tested.value,
            models=[b.name for b in self.baselines if b.kind in ("base", "parent")],
            best_parent=strongest,
            comparisons=tuple(sorted(comparisons, key=lambda comparison: comparison.opponent != strongest)),
            scores={name: self._table_column(scored) for name, scored in ((winner.name, tested), *opponents.items())},
            higher_is_better={"objective": True, **directions},
            counts=counts,
        )

    def _table_column(self, scored: Scored) -> dict[str, float]:
        """Return scores with the objective first, then its tasks, then what else was measured."""
        metrics = scored.metrics()
        first = ["objective", *(term.key for term in self.bench.objective.terms)]
        return {name: metrics[name] for name in [*first, *(name for name in metrics if name not in first)]}


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the operating system lets go of when the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(f"{folder}: another process runs this study; wait for it or stop it") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
