"""The study store: an Optuna storage that holds every trial, every answer and every score, and is the truth.

Two Optuna studies share the storage. ``NAME`` holds the trials, as samplers and optuna-dashboard read them;
``NAME.scores`` holds what was scored outside the search: baselines, finalists, and both on the test questions.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from evals.tasks.sampling import Question
from search.archive import BATCH, Archive
from search.claims import Claims
from search.errors import StoreError
from search.lean import LeanStorage
from search.locks import JournalLock, across_hosts, make_lock
from search.patience import Patience, said, shown
from search.results.outcome import Failed, Part, Scored
from search.samplers import LEARNED
from search.storage.codec import RECORD, pack, unpack
from search.storage.write_ahead import WriteAhead, settling
from search.study.study import FREE, LoadedStudy, completed, differences

_IDENTITY = "identity"


class Store:
    """What a study has found so far.

    Args:
        url: An Optuna storage URL, or ``journal:FILE``.
        study: The study that runs on it.
        joining: Another process leads the study; the data may be in another place on this host.
        patience: Waits for a storage that is locked or away; by default for a minute and in silence.

    Attributes:
        trials: The Optuna study of the trials.
        claims: Gives them out.

    Raises:
        StoreError: The storage cannot be opened, or its study of this name is another one.
        SearchStoppedError: Here and everywhere: the storage is broken, or does not answer for too long.
    """

    def __init__(
        self, url: str, study: LoadedStudy, *, joining: bool = False, patience: Patience | None = None
    ) -> None:
        self.url = shown(url)
        name = study.file.study
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._patience = patience or Patience(f"store {self.url}")
        try:
            storage = self._opened(url)
            if joining:
                optuna.load_study(study_name=name, storage=storage)
            self.trials = optuna.create_study(
                study_name=name, storage=storage, directions=["maximize"] * study.objectives(), load_if_exists=True
            )
            self._scores = optuna.create_study(
                study_name=f"{name}.scores", storage=storage, direction="maximize", load_if_exists=True
            )
        except KeyError:
            raise StoreError(
                f"store {self.url}: holds no study '{name}' yet; start 'mergesearch search' first"
            ) from None
        except (OptunaError, SQLAlchemyError, OSError, ImportError, ValueError) as error:
            raise StoreError(f"store {self.url}: cannot be opened: {said(error)}") from None
        self._archive = Archive(storage)
        self._settle = settling(url)
        lock = make_lock(url, storage, name)
        self.claims = Claims(self.trials, lock, far=across_hosts(url), patience=self._patience)
        self._claim(study, elsewhere=joining)
        self._known = {
            (r["part"], r["digest"]): r for r in (t.user_attrs[RECORD] for t in self._scores.get_trials(deepcopy=False))
        }

    def _opened(self, url: str) -> BaseStorage:
        storage = self._patience(lambda: _open(url), opening=True)
        self._patience.over(storage)
        return storage

    def _claim(self, study: LoadedStudy, *, elsewhere: bool) -> None:
        mine = study.identity()
        theirs = self.trials.user_attrs.get(_IDENTITY)
        if theirs is None and elsewhere:
            raise StoreError(
                f"store {self.url}: holds no study '{study.file.study}' yet; start 'mergesearch search' first"
            )
        if theirs is None:
            self.trials.set_user_attr(_IDENTITY, mine)
            return
        changes = list(differences(completed(theirs), mine))
        if elsewhere:
            changes = [c for c in changes if not c.startswith(("evaluate.data:", "evaluate.include_path:"))]
        if changes:
            raise StoreError(
                f"store {self.url}: holds another study called '{study.file.study}'; it differs in "
                + "; ".join(changes[:5])
                + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
                + f"; choose another study name or another --out, or restore the file ({', '.join(FREE)} may change)"
            )

    def pin(self, key: str, value: object, remedy: str) -> None:
        """Record a fact of the study once, such as the hashes of its parents, and refuse a later different one.

        Raises:
            StoreError: The store has another value.
        """
        value = json.loads(json.dumps(value))
        theirs = self.trials.user_attrs.get(key)
        if theirs is None:
            self.trials.set_user_attr(key, value)
        elif theirs != value:
            changes = list(differences(theirs, value))
            raise StoreError(f"store {self.url}: {key} changed since the study began: {changes[0]}; {remedy}")

    def pinned(self, key: str) -> object:
        """Return a pinned fact, None before it is pinned."""
        return self.trials.user_attrs.get(key)

    def finished(self) -> list[FrozenTrial]:
        """Return the trials that are done, in the order of their numbers."""
        states = (TrialState.COMPLETE, TrialState.FAIL)
        return [t for t in self.trials.get_trials(deepcopy=False, states=states) if RECORD in t.user_attrs]

    def records(self, trials: Sequence[FrozenTrial]) -> Iterator[tuple[FrozenTrial, dict[str, Any]]]:
        """Go through finished trials and their records, a few of which are in memory at a time.

        Raises:
            StoreError: The database has lost one.
        """
        for begin in range(0, len(trials), BATCH):
            some = trials[begin : begin + BATCH]
            yield from zip(some, self._patience(partial(self._archive.read, some)), strict=True)

    def tell(
        self,
        trial: optuna.Trial,
        outcome: Scored | Failed,
        told: Sequence[float],
        record: Mapping[str, Any],
        questions: Sequence[Question],
    ) -> bool:
        """Finish a trial: its record first, then its state, so that a told trial always has its answers.

        Returns:
            Whether it was finished; a trial that was given to another process since is left to that.

        Args:
            trial: The trial.
            outcome: What became of it.
            told: Values for the sampler.
            record: Plain facts worth keeping: recipe, times.
            questions: The questions of its part, in order.
        """
        if isinstance(outcome, Failed):
            more, state = {"reason": outcome.reason, "failure": outcome.kind}, TrialState.FAIL
        else:
            more, state = pack(outcome, questions), TrialState.COMPLETE
        return self._patience(lambda: self._finish(trial, {**record, **more}, told, state))

    def _finish(self, trial: optuna.Trial, record: dict[str, Any], told: Sequence[float], state: TrialState) -> bool:
        with self.claims.locked():
            held = self.claims.holds(trial)
            self.claims.release()
            if held:
                self._archive.keep(trial._trial_id, record)
                self.trials.tell(trial, list(told) or None, state)
        self._settle()
        return held

    def learn(
        self, parameters: Mapping[str, Any], distributions: Mapping[str, Any], values: Sequence[float], note: str
    ) -> None:
        """Give the samplers a scored recipe to learn from that no trial asked for (a baseline inside the space).

        One of the same note that they know already is left as it is.
        """
        known = create_trial(
            params=dict(parameters), distributions=dict(distributions), values=list(values), user_attrs={LEARNED: note}
        )
        self._patience(lambda: None if note in self.learned() else self.trials.add_trial(known))

    def distinct(self) -> int:
        """Return the number of different candidates that were scored or that the samplers know."""
        done = self.trials.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
        return len({json.dumps(trial.params, sort_keys=True) for trial in done})

    def learned(self) -> set[str]:
        """Return the names of the baselines that the samplers know."""
        found = (t.user_attrs.get(LEARNED) for t in self.trials.get_trials(deepcopy=False))
        return {name for name in found if isinstance(name, str)}

    def recall(self, part: Part, digest: str, questions: Sequence[Question]) -> tuple[Scored, Mapping[str, Any]] | None:
        """Return what a recipe scored on a part outside the search, if it was scored."""
        record = self._known.get((part, digest))
        return None if record is None else (unpack(record, questions), record)

    def outside(self) -> list[dict[str, Any]]:
        """Return the records of everything that was scored outside the search."""
        return list(self._known.values())

    def remember(
        self, part: Part, digest: str, scored: Scored, questions: Sequence[Question], record: Mapping[str, Any]
    ) -> None:
        """Keep what a recipe scored on a part outside the search."""
        packed = {**record, "part": part, "digest": digest, **pack(scored, questions)}
        self._scores.add_trial(create_trial(value=scored.value, user_attrs={RECORD: packed}))
        self._settle()
        self._known[part, digest] = packed


def default_url(folder: Path) -> str:
    """Return the store of a study that names none: ``study.db`` in its folder."""
    return f"sqlite:///{(folder / 'study.db').resolve()}"


def _open(url: str) -> BaseStorage:
    if url.startswith("journal:"):
        file = url.removeprefix("journal:")
        return JournalStorage(JournalFileBackend(file, lock_obj=JournalLock(Path(file))))
    if url.startswith("sqlite"):
        return LeanStorage(url, engine_kwargs={"connect_args": {"timeout": 3, "factory": WriteAhead}})
    return LeanStorage(_with_driver(url), engine_kwargs={"pool_pre_ping": True})


def _with_driver(url: str) -> str:
    """Name psycopg 3 in a PostgreSQL URL that names no driver, unless only psycopg 2, SQLAlchemy's first, is there."""
    stem, mark, rest = url.partition("://")
    if stem not in ("postgresql", "postgres"):
        return url
    if find_spec("psycopg") is not None:
        return f"postgresql+psycopg{mark}{rest}"
    if find_spec("psycopg2") is None:
        raise ImportError("PostgreSQL needs psycopg; install mergesearch[postgres]")
    return f"postgresql{mark}{rest}"
