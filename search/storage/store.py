"""The study store: an Optuna storage that holds every trial, every answer and every score, and is the truth.

Two Optuna studies share the storage. ``NAME`` holds the trials, as samplers and optuna-dashboard read them;
``NAME.scores`` holds what was scored outside the search: baselines, finalists, and both on the test questions.

Every verb that writes is idempotent, so that it can be repeated when the storage was away half-way through it.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from evals.tasks.sampling import Question
from search.errors import StoreError
from search.results.outcome import Failed, Part, Scored
from search.samplers import LEARNED
from search.storage.answers import BATCH, AnswerTable
from search.storage.codec import RECORD, pack, unpack
from search.storage.leadership import Term
from search.storage.opening import open_storage
from search.storage.pins import plain, refuse_change
from search.storage.waiting import StorageWaiter, reason_of, shown
from search.storage.write_ahead import settling
from search.study.study import FREE, LoadedStudy, completed, differences

_IDENTITY = "identity"
T = TypeVar("T")


class Store:
    """What a study has found so far.

    Args:
        url: An Optuna storage URL, or ``journal:FILE``.
        study: The study that runs on it.
        existing: The study must be there already; its data may be in another place on this host.
        waiter: Waits for a storage that is locked or away; by default for a minute and in silence.

    Attributes:
        trials: The Optuna study of the trials.

    Raises:
        StoreError: The storage cannot be opened, or its study of this name is another one.
        SearchStoppedError: Here and everywhere: the storage is broken, or does not answer for too long.
    """

    def __init__(
        self, url: str, study: LoadedStudy, *, existing: bool = False, waiter: StorageWaiter | None = None
    ) -> None:
        self.url = shown(url)
        name = study.file.study
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._wait = waiter or StorageWaiter(f"store {self.url}")
        try:
            opened = self._wait.opening(lambda: open_storage(url))
            self._storage = get_storage(opened)
            if existing:
                self._wait.opening(lambda: optuna.load_study(study_name=name, storage=self._storage))
            self.trials = self._made(name, study.objectives())
            self._scores = self._made(f"{name}.scores", 1)
            self._study_id = self._storage.get_study_id_from_name(name)
        except KeyError:
            raise self._nothing_yet(name) from None
        except (OptunaError, SQLAlchemyError, OSError, ImportError, ValueError) as error:
            raise StoreError(f"store {self.url}: cannot be opened: {reason_of(error)}") from None
        engine = opened.engine if isinstance(opened, RDBStorage) else None
        self._engine = engine
        self._term = None if engine is None else Term(engine, name, f"store {self.url}")
        self._answers = AnswerTable(self._storage, engine, self._id_of, self._check_term)
        self._settle = settling(url)
        self._check_identity(study, existing=existing)
        scored = self._wait(lambda: self._scores.get_trials(deepcopy=False))
        self._outside = {(r["part"], r["digest"]): r for r in (trial.user_attrs[RECORD] for trial in scored)}

    def _made(self, name: str, objectives: int) -> optuna.Study:
        directions = [StudyDirection.MAXIMIZE] * objectives
        make = partial(optuna.create_study, storage=self._storage, directions=directions, load_if_exists=True)
        return self._wait.opening(lambda: make(study_name=name))

    def _nothing_yet(self, name: str) -> StoreError:
        return StoreError(f"store {self.url}: holds no study '{name}' yet; start 'mergesearch search' first")

    def _check_identity(self, study: LoadedStudy, *, existing: bool) -> None:
        mine = study.identity()
        theirs = self.pinned(_IDENTITY)
        if theirs is None and existing:
            raise self._nothing_yet(study.file.study)
        if theirs is None:
            self._wait(lambda: self.trials.set_user_attr(_IDENTITY, mine))
            return
        changes = list(differences(completed(theirs), mine))
        if existing:
            changes = [c for c in changes if not c.startswith(("evaluate.data:", "evaluate.include_path:"))]
        if changes:
            raise StoreError(
                f"store {self.url}: holds another study called '{study.file.study}'; it differs in "
                + "; ".join(changes[:5])
                + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
                + f"; choose another study name or another --out, or restore the file ({', '.join(FREE)} may change)"
            )

    @contextmanager
    def leading(self, *, take_over: bool = False) -> Iterator[None]:
        """Lead the study: of all hosts, only this process writes to it.

        Args:
            take_over: Also where another host's process leads it, as far as the store knows; that one stops at its
                next write.

        Raises:
            StoreError: Another host's process leads it.
        """
        term = self._term
        if term is None:
            yield
            return
        self._wait(lambda: term.begin(take_over=take_over))
        try:
            yield
        finally:
            term.end()

    def _check_term(self, connection: Connection | None = None) -> None:
        """Make sure that this process still leads the study, in a transaction where there is one."""
        if self._term is None or self._engine is None:
            return
        if connection is not None:
            self._term.check(connection)
            return
        with self._engine.connect() as own:
            self._term.check(own)

    def pin(self, key: str, value: object, remedy: str) -> None:
        """Record a fact of the study once, such as the hashes of its parents, and refuse a later different one.

        Raises:
            StoreError: The store has another value.
        """
        value, recorded = plain(value), self.pinned(key)
        if recorded is None:
            self._wait(lambda: self.trials.set_user_attr(key, value))
        else:
            refuse_change(f"store {self.url}", key, recorded, value, remedy)

    def pinned(self, key: str) -> object:
        """Return a pinned fact, None before it is pinned."""
        return self._wait(lambda: self.trials.user_attrs).get(key)

    def note(self, key: str, value: object) -> None:
        """Record a fact of the study that may change, such as how often its test questions were looked at."""
        self._wait(lambda: self.trials.set_user_attr(key, plain(value)))

    def finished(self) -> list[FrozenTrial]:
        """Return the trials that are done, in the order of their numbers."""
        states = (TrialState.COMPLETE, TrialState.FAIL)
        done = self._wait(lambda: self.trials.get_trials(deepcopy=False, states=states))
        return [trial for trial in done if RECORD in trial.user_attrs]

    def records(self, trials: Sequence[FrozenTrial]) -> Iterator[tuple[FrozenTrial, dict[str, Any]]]:
        """Go through finished trials and their records, a few of which are in memory at a time.

        Raises:
            StoreError: The database has lost one.
        """
        for begin in range(0, len(trials), BATCH):
            some = trials[begin : begin + BATCH]
            yield from zip(some, self._wait(partial(self._answers.read, some)), strict=True)

    def ask(self, suggest: Callable[[optuna.Trial], T], in_flight: Collection[int] = ()) -> tuple[int, T]:
        """Return the number of the next trial, and what ``suggest`` makes of it.

        That is the first trial which runs and is not in flight: an earlier leader asked for it, or this one before
        the storage went away. Otherwise it is a new one.

        Args:
            suggest: Has the sampler propose the trial's parameters.
            in_flight: Numbers of the trials that scorers have.
        """

        def take() -> tuple[int, T]:
            self._check_term()
            trial = self._taken_up(in_flight) or self.trials.ask()
            return trial.number, suggest(trial)

        return self._wait(take)

    def _taken_up(self, in_flight: Collection[int]) -> optuna.Trial | None:
        running = self.trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        left = next((trial.number for trial in running if trial.number not in in_flight), None)
        return None if left is None else optuna.Trial(self.trials, self._id_of(left))

    def _id_of(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def tell(
        self,
        number: int,
        outcome: Scored | Failed,
        values: Sequence[float],
        facts: Mapping[str, Any],
        questions: Sequence[Question],
    ) -> None:
        """Finish a trial: its record first, then its state, so that a finished trial always has its answers.

        Args:
            number: Number of the trial; one that is finished is left as it is.
            outcome: What became of it.
            values: What the sampler learns from; empty for a failed trial.
            facts: Plain facts worth keeping: recipe, times.
            questions: The questions of its part, in order.

        Raises:
            SearchStoppedError: Another process took the study over.
        """
        if isinstance(outcome, Failed):
            record, state = {**facts, "reason": outcome.reason, "failure": outcome.kind}, TrialState.FAIL
        else:
            record, state = {**facts, **pack(outcome, questions)}, TrialState.COMPLETE
        self._wait(lambda: self._finish(number, record, list(values) or None, state))
        self._settle()

    def _finish(self, number: int, record: Mapping[str, Any], values: list[float] | None, state: TrialState) -> None:
        if self._storage.get_trial(self._id_of(number)).state.is_finished():
            self._check_term()
            return
        self._answers.write(number, record)
        self.trials.tell(number, values, state)

    def enqueue(self, parameters: Mapping[str, Any]) -> None:
        """Line up a candidate to ask for before the sampler proposes any, unless it was asked for already."""
        self._wait(lambda: self.trials.enqueue_trial(dict(parameters), skip_if_exists=True))

    def learn(
        self, parameters: Mapping[str, Any], distributions: Mapping[str, Any], values: Sequence[float], note: str
    ) -> None:
        """Give the samplers a scored recipe to learn from that no trial asked for (a baseline inside the space).

        One of the same note that they know already is left as it is.
        """
        known = create_trial(
            params=dict(parameters), distributions=dict(distributions), values=list(values), user_attrs={LEARNED: note}
        )
        self._wait(lambda: None if note in self.learned() else self.trials.add_trial(known))

    def distinct(self) -> int:
        """Return the number of different candidates that were scored or that the samplers know."""
        states = (TrialState.COMPLETE, TrialState.FAIL)
        done = self._wait(lambda: self.trials.get_trials(deepcopy=False, states=states))
        return len({json.dumps(trial.params, sort_keys=True) for trial in done})

    def learned(self) -> set[str]:
        """Return the names of the baselines that the samplers know."""
        found = (t.user_attrs.get(LEARNED) for t in self._wait(lambda: self.trials.get_trials(deepcopy=False)))
        return {name for name in found if isinstance(name, str)}

    def recall(self, part: Part, digest: str, questions: Sequence[Question]) -> tuple[Scored, Mapping[str, Any]] | None:
        """Return what a recipe scored on a part outside the search, if it was scored."""
        record = self._outside.get((part, digest))
        return None if record is None else (unpack(record, questions), record)

    def holds(self, part: Part, digest: str) -> bool:
        """Tell whether a recipe was scored on a part outside the search."""
        return (part, digest) in self._outside

    def outside(self) -> list[dict[str, Any]]:
        """Return the records of everything that was scored outside the search."""
        return list(self._outside.values())

    def remember(
        self, part: Part, digest: str, scored: Scored, questions: Sequence[Question], record: Mapping[str, Any]
    ) -> None:
        """Keep what a recipe scored on a part outside the search."""
        packed = {**record, "part": part, "digest": digest, **pack(scored, questions)}
        trial = create_trial(value=scored.value, user_attrs={RECORD: packed})

        def add() -> None:
            self._check_term()
            self._scores.add_trial(trial)

        self._wait(add)
        self._settle()
        self._outside[part, digest] = packed


def default_url(folder: Path) -> str:
    """Return the store of a study that names none: ``study.db`` in its folder."""
    return f"sqlite:///{(folder / 'study.db').resolve()}"
