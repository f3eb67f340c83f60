"""Claims: which process runs which trial, and which trials nobody runs any more.

Optuna's heartbeats only exist inside ``Study.optimize``. Here a trial names its process; the process that leads the
study puts the trials of dead ones back, to be run again under their numbers with the same parameters. On one host the
kernel knows who lives and who was stopped; of other hosts, a heart that did not beat for a minute is dead, and so is a
process of this host that was stopped for so long. Beats are counts, judged by the clock of the process that looks:
hosts need not agree on the time.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from search.errors import SearchStoppedError, StoreError
from search.interrupts import Say, silent
from search.locks import Lock
from search.owners import Owner
from search.patience import Patience
from search.storage.codec import RECORD

OWNER = "owner"
_BEAT, _LEADER, _OPEN, _CLOSED, _STANDS = "beat", "leader", "open", "closed", "stands"


@dataclass(frozen=True)
class Pulse:
    """How often hearts beat, and after how long without a beat a process of another host counts as dead, in seconds."""

    every: float = 10.0
    dead: float = 60.0


class Claims:
    """Gives out the trials of a study, each to one process.

    Args:
        trials: The study.
        lock: Held for every change; None where a single process has the storage alone.
        far: Whether processes of other hosts may take part, so that hearts must beat.
        me: This process.
        pulse: Of hearts.
        patience: Waits for a storage that is locked or away.
    """

    def __init__(
        self,
        trials: optuna.Study,
        lock: Lock | None,
        *,
        far: bool,
        me: Owner | None = None,
        pulse: Pulse | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._trials = trials
        self._storage = trials._storage
        self.shared = lock is not None
        self.locked: Lock = lock or nullcontext
        self._far = far
        self._me = me or Owner.me()
        self._pulse = pulse or Pulse()
        self._patience = patience or Patience("store")
        self._current: int | None = None
        self._leads = False
        self._heard: dict[object, tuple[object, float]] = {}

    def open(self, budget: int) -> None:
        """Begin to give out trials, up to a number of them."""
        self._trials.set_user_attr(_OPEN, budget)

    def close(self) -> None:
        """Give out no more trials: the study has all that it asked for."""
        self._trials.set_user_attr(_OPEN, _CLOSED)

    def break_off(self) -> None:
        """Give out no more trials for now, unless the study has all that it asked for."""
        if not self.closed():
            self._trials.set_user_attr(_OPEN, None)

    def closed(self) -> bool:
        """Tell whether the study has all the trials that it asked for."""
        return self._trials.user_attrs.get(_OPEN) == _CLOSED

    def opened(self) -> int | None:
        """Return how many trials there shall be; None while none are given out."""
        budget = self._trials.user_attrs.get(_OPEN)
        return budget if isinstance(budget, int) else None

    def claim(self, left: int | None = None) -> optuna.Trial | None:
        """Return a trial that this process is to run: one that waits, else a new one; None when all are given out.

        Args:
            left: Number of candidates that were not asked for yet, running ones included; None for no end of them.
        """
        taken: list[int] = []
        trial_id = self._patience(lambda: self._take(left, taken))
        self._current = trial_id
        return None if trial_id is None else optuna.Trial(self._trials, trial_id)

    def _take(self, left: int | None, taken: list[int]) -> int | None:
        """Return the id of a trial to run, and note it in ``taken``; tried again, prefer the one noted there."""
        with self.locked():
            if taken and self._mine(taken[-1]):
                self._storage.set_trial_user_attr(taken[-1], OWNER, self._me.as_text())
                return taken[-1]
            budget = self.opened()
            given = [t for t in self._trials.get_trials(deepcopy=False) if _counts(t)]
            running = sum(t.state == TrialState.RUNNING for t in given)
            if budget is None or len(given) >= budget or (left is not None and running >= left):
                return None
            self._trials._thread_local.cached_all_trials = None
            trial_id = self._trials._pop_waiting_trial_id()
            if trial_id is None:
                trial_id = self._storage.create_new_trial(self._trials._study_id)
            taken.append(trial_id)
            self._storage.set_trial_user_attr(trial_id, OWNER, self._me.as_text())
        return trial_id

    def _mine(self, trial_id: int) -> bool:
        """Tell whether a trial runs and is this process's, or nobody's yet."""
        frozen = self._storage.get_trial(trial_id)
        return frozen.state == TrialState.RUNNING and _owner(frozen.user_attrs.get(OWNER)) in (None, self._me)

    def holds(self, trial: optuna.Trial) -> bool:
        """Tell whether a trial still is this process's, under the lock: a process that stood still may have lost it."""
        frozen = self._storage.get_trial(trial._trial_id)
        return frozen.state == TrialState.RUNNING and _owner(frozen.user_attrs.get(OWNER)) == self._me

    def release(self) -> None:
        """Say that this process runs no trial."""
        self._current = None

    def running(self) -> list[FrozenTrial]:
        """Return the trials that are given out and not finished."""
        return self._trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def sweep(self) -> list[str]:
        """Put the trials of dead processes back; return one line for each that had a process.

        Raises:
            SearchStoppedError: This process led the study, stood still for long, and another one leads it now.
        """
        return self._patience(self._sweep)

    def _sweep(self) -> list[str]:
        found = []
        with self.locked():
            self._check_lead()
            for trial in self.running():
                owner = _owner(trial.user_attrs.get(OWNER))
                if owner is None or not self._lives(trial, owner):
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
                    if owner is not None and owner != self._me:
                        found.append(f"{owner} is gone; its trial {trial.number} is run again")
        return found

    @contextmanager
    def leading(self, say: Say = silent) -> Iterator[None]:
        """Lead the study: of all processes, only this one scores baselines and finalists and puts trials back.

        Args:
            say: Takes one line for a person.

        Raises:
            StoreError: Another process leads it.
        """
        self._take_the_lead(say)
        try:
            with self.beating():
                yield
        finally:
            self._step_down()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beat while something runs, where other hosts cannot see this process."""
        done = threading.Event()
        heart = threading.Thread(target=self._beat, args=(done,), daemon=True) if self._far else None
        if heart is not None:
            heart.start()
        try:
            yield
        finally:
            done.set()
            if heart is not None:
                heart.join()

    def check_leader(self) -> None:
        """Make sure that a process leads the study.

        Raises:
            SearchStoppedError: It is gone.
        """
        record = self._trials.user_attrs.get(_LEADER)
        if record is None or not self._alive(_LEADER, Owner.of(record), record.get(_BEAT)):
            raise SearchStoppedError(
                "nobody leads this study any more; finished trials are kept, and 'mergesearch search' goes on with it"
            )

    def _check_lead(self) -> None:
        leader = _owner(self._trials.user_attrs.get(_LEADER)) if self._leads else None
        if leader is not None and leader != self._me:
            raise SearchStoppedError(
                f"{leader} leads this study now, since this process stood still; finished trials are kept"
            )

    def _step_down(self) -> None:
        """Say that nobody leads the study, unless another process does; whatever fails, the next one finds out."""
        with suppress(SearchStoppedError, OptunaError, SQLAlchemyError, OSError), self.locked():
            if _owner(self._trials.user_attrs.get(_LEADER)) == self._me:
                self._trials.set_user_attr(_LEADER, None)
        self._leads = False

    def _lead(self) -> Any:
        """Take the lead if it is free, and return None; else what the one that has it says of itself."""
        with self.locked():
            record: Any = self._trials.user_attrs.get(_LEADER)
            other = self._me if record is None else Owner.of(record)
            if other != self._me and self._alive(_LEADER, other, record[_BEAT]):
                return record
            self._trials.set_user_attr(_LEADER, {**self._me.as_dict(), _BEAT: 0})
            self._trials.set_user_attr(_OPEN, None)
            self._leads = True
        return None

    def _take_the_lead(self, say: Say) -> None:
        first = None
        while (record := self._patience(self._lead)) is not None:
            other = Owner.of(record)
            if other.here() or record != (first or record):
                raise StoreError(f"{other} runs this study; join it with 'mergesearch worker', or stop it")
            if first is None:
                say(f"{other} was the last to run this study; waits {self._pulse.dead:.0f} s for a sign of its life")
            first = first or record
            time.sleep(self._pulse.every / 4)

    def _lives(self, trial: FrozenTrial, owner: Owner) -> bool:
        if owner == self._me:
            return trial._trial_id == self._current
        return self._alive(trial.number, owner, trial.user_attrs.get(_BEAT))

    def _alive(self, key: object, owner: Owner, beat: object) -> bool:
        if owner.here():
            if not owner.lives():
                return False
            beat = _STANDS if owner.stands() else object()
        heard, now = (owner, beat), time.monotonic()
        if self._heard.get(key, (None, 0.0))[0] != heard:
            self._heard[key] = heard, now
        return now - self._heard[key][1] <= self._pulse.dead

    def _beat(self, done: threading.Event) -> None:
        """Count up, beside the trial that runs and for the study if this process leads it, until all is done."""
        count = 0
        while not done.wait(self._pulse.every):
            count += 1
            try:
                if self._leads:
                    self._beat_as_leader(count)
                if self._current is not None and self._mine(self._current):
                    self._storage.set_trial_user_attr(self._current, _BEAT, [self._me.pid, count])
            except (OptunaError, SQLAlchemyError, OSError):
                continue  # the trial was just finished, or the server is away: the next beat tells

    def _beat_as_leader(self, count: int) -> None:
        with self.locked():
            if _owner(self._trials.user_attrs.get(_LEADER)) == self._me:
                self._trials.set_user_attr(_LEADER, {**self._me.as_dict(), _BEAT: count})


def _counts(trial: FrozenTrial) -> bool:
    """Tell whether a trial is one of the budget.

    One that waits is not, also where its process was killed between its record and its state, so that it has a record.
    """
    return trial.state == TrialState.RUNNING or (trial.state.is_finished() and RECORD in trial.user_attrs)


def _owner(record: Any) -> Owner | None:
    return None if record is None else Owner.of(record)
