"""Goes through what a store holds, without opening a model: for mirrors that are made again."""

from pathlib import Path

from evals.tasks.sampling import QuestionSets
from merge.recipe.schema import Recipe
from search.errors import StoreError
from search.results.job import Job
from search.results.observer import Observer
from search.results.outcome import Failed, Scored
from search.results.trial_records import Reporter
from search.storage.codec import unpack
from search.storage.store import Store, default_url
from search.study.study import LoadedStudy


def replay(study: LoadedStudy, folder: Path, observer: Observer) -> int:
    """Tell an observer of everything that a study's store holds; return how many records that were.

    Raises:
        StoreError: The store cannot be opened, holds another study, or nothing yet.
    """
    url = study.file.store or default_url(folder)
    store = Store(url, study)
    pinned = store.pinned("questions")
    if not isinstance(pinned, str):
        raise StoreError(f"store {url}: holds no answers yet; run 'mergesearch search' first")
    sets = QuestionSets.from_json(pinned)
    questions = {"search": sets.search, "selection": sets.selection, "test": sets.test}
    reporter = Reporter(study.file.study, study.digest())
    count = 0
    for record in store.outside():
        recipe = Recipe.from_mapping(record["recipe"], place=f"store {url}: {record['name']}")
        scored = unpack(record, questions[record["part"]])
        job = Job(record["name"], record["number"], recipe, record["part"], family=record["family"])
        observer.scored(reporter.outside(job, scored, record))
        count += 1
    for frozen, record in store.records(store.finished()):
        outcome: Scored | Failed = (
            Failed(record["reason"], record["failure"]) if "failure" in record else unpack(record, sets.search)
        )
        candidate = study.space.candidate(frozen.params)
        observer.scored(reporter.trial(f"trial {frozen.number}", frozen.number, candidate, outcome, times=record))
        count += 1
    return count
