"""Scores all competitors on the same test questions, random masks with several seeds; keeps every answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evals.scores.results import Results
from experiments.duel.competitors import Competitor
from experiments.study_folder.folder import StudyFolder
from merge.methods import get_method
from merge.recipe.schema import Recipe
from search.errors import StoreError
from search.loop.dispatch import scored_outside
from search.objective.objective import Objective
from search.proposals.baselines import make_baselines
from search.results.job import Job
from search.results.observer import Observer
from search.results.outcome import Scored
from search.results.trial_records import Reporter
from search.scoring.resources import Resources
from search.storage.leadership import locked_for
from search.storage.store import Store
from search.study.study import LoadedStudy
from search.workers.in_process import InProcess


@dataclass(frozen=True)
class ScoredCompetitor:
    """A competitor with its answers to the test questions.

    Attributes:
        name: Its name.
        kind: ``family``, or the kind of baseline: ``base``, ``parent``, ``merge``, ``known``.
        recipe: Its recipe.
        seeds: Seeds of its random masks, the study's own first; one where it has none.
        results: Answers with each mask seed.
        values: Objective with each mask seed.
        trials: Trials of its family's search; 0 for a fixed recipe.
        origin: Where the recipe comes from, as text.
    """

    name: str
    kind: str
    recipe: Recipe
    seeds: tuple[int, ...]
    results: tuple[Results, ...]
    values: tuple[float, ...]
    trials: int = 0
    origin: str = ""

    @property
    def value(self) -> float:
        """Return the objective, the mean over masks."""
        return float(np.mean(self.values))


class DuelScorer:
    """Scores competitors on the test questions of a duel, or takes the answers that its store already holds.

    Args:
        study: The study.
        root: Folder of the duel.
        observer: Told of every scoring.
        models_roots: Folders in which model names are looked up.
        device: Where the live model runs.
    """

    def __init__(
        self, study: LoadedStudy, root: Path, observer: Observer, *, models_roots: Sequence[Path], device: str
    ) -> None:
        self._study, self._root = study, root
        self._bench = Resources(study, models_roots, device, root)
        self._observer = observer

    def check(self) -> None:
        """Find out whether models fit and questions are there, before anything is written.

        Raises:
            merge.errors.MergeError: A parent is missing or does not fit.
            evals.errors.EvalError: A task, a metric or the data are wrong.
        """
        if not self._root.exists():
            self._bench.check()

    def score_all(self, competitors: Sequence[Competitor]) -> tuple[Objective, tuple[ScoredCompetitor, ...]]:
        """Score competitors and baselines; return the objective and everyone with answers, competitors first.

        Raises:
            search.errors.SearchStoppedError: One of them cannot be scored; the others' answers are kept.
            StoreError: Another process holds this duel, or its store is another study's.
        """
        with locked_for((self._root / ".lock",), "duel"):
            store = Store(StudyFolder(self._root).store_url(self._study), self._study)
            self._bench.use(store)
            _ = self._bench.sets
            self._reuse_answers(store)
            scored = [self._family(store, number, one) for number, one in enumerate(competitors, start=1)]
            names = {one.name for one in competitors}
            known = {name: recipe for name, recipe in self._study.known.items() if name not in names}
            for number, baseline in enumerate(make_baselines(self._bench.recipes, known), start=1):
                seeds = self._seeds(baseline.recipe)
                answers = self._answers(store, baseline.name, baseline.recipe, -number, "", seeds)
                scored.append(ScoredCompetitor(baseline.name, baseline.kind, baseline.recipe, seeds, *answers))
            return self._bench.objective, tuple(scored)

    def _family(self, store: Store, number: int, one: Competitor) -> ScoredCompetitor:
        seeds = self._seeds(one.recipe)
        answers = self._answers(store, one.name, one.recipe, -10_000 * number, one.name, seeds)
        return ScoredCompetitor(one.name, "family", one.recipe, seeds, *answers, one.trials, one.origin)

    def _answers(
        self, store: Store, name: str, recipe: Recipe, number: int, family: str, seeds: Sequence[int]
    ) -> tuple[tuple[Results, ...], tuple[float, ...]]:
        scored = []
        for index, seed in enumerate(seeds):
            title = name if index == 0 else f"{name}, masks {index}"
            scored.append(self._one(store, title, recipe, number - 100 * index, family, seed))
        return tuple(one.results for one in scored), tuple(one.value for one in scored)

    def _one(self, store: Store, name: str, recipe: Recipe, number: int, family: str, seed: int) -> Scored:
        """Score a recipe with one seed, or recall what it scored; under the same key as a search's verdict."""
        reporter = Reporter(self._study.file.study, self._study.digest())
        own = None if seed == self._study.file.search.seed else seed
        job = Job(name, number, recipe, "test", len(self._bench.questions("test")), family, own)
        pool = InProcess(lambda: self._bench.scorer)
        ((_, scored, times),) = scored_outside(pool, store, [job], self._bench.questions)
        self._observer.scored(reporter.outside(job, scored, times))
        return scored

    def _seeds(self, recipe: Recipe) -> tuple[int, ...]:
        """Return the study's seed, and more where the recipe draws masks: those of a search's verdict."""
        settings = self._study.file.search
        if not get_method(recipe.merge_method).random:
            return (settings.seed,)
        more = np.random.SeedSequence((settings.seed, 1)).generate_state(settings.mask_seeds)
        return (settings.seed, *map(int, more))

    def _reuse_answers(self, store: Store) -> None:
        """Copy answers to the same test questions from the stores of the families' searches."""
        own_sets, questions = store.pinned("questions"), self._bench.questions("test")
        for folder in sorted((self._root / "families").glob("*/study.yaml")):
            family_store = _store_of(folder.parent, self._study)
            if family_store is None or family_store.pinned("questions") != own_sets:
                continue
            for record in family_store.outside():
                digest = record["digest"]
                answers = family_store.recall("test", digest, questions) if record["part"] == "test" else None
                if answers is not None and store.recall("test", digest, questions) is None:
                    facts = {key: record[key] for key in ("name", "number", "family", "recipe", "started", "ended")}
                    store.remember("test", digest, answers[0], questions, facts)


def _store_of(folder: Path, whole: LoadedStudy) -> Store | None:
    from experiments.duel.competitors import family_study

    if folder.name not in whole.space.families:
        return None
    study = family_study(whole, folder.name)
    try:
        return Store(StudyFolder(folder).store_url(study), study)
    except StoreError:
        return None
