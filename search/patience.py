"""Patience: a storage that is locked or away is waited for; one that is broken ends the run in one line."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    PendingRollbackError,
    ResourceClosedError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from search.errors import SearchStoppedError
from search.interrupts import Say, silent

T = TypeVar("T")

LONGEST = 900.0
"""Seconds that a search waits for its storage."""
SHORT = 60.0
"""Seconds that a command waits which only reads."""
STEP = 0.25
"""Seconds between two tries."""
LASTING = ("is full", "No space left", "read-only", "readonly")
"""What the messages of faults say that waiting does not mend."""
OPERATIONS = (
    "create_new_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name",
    "get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs",
    "get_all_studies", "create_new_trial", "_create_new_trial", "set_trial_param", "_set_trial_param",
    "set_trial_state_values", "set_trial_user_attr", "set_trial_system_attr", "get_trial", "get_all_trials",
    "_get_trials", "get_trial_id_from_study_id_trial_number",
)  # fmt: skip
"""Operations of Optuna's storages; those with an underscore are called by its cache."""


class Patience:
    """Runs what needs a storage, again and again while that is locked or away.

    What runs inside another call is not repeated by itself: it is part of the outer one, which is repeated whole. So
    what is done under a lock begins with taking the lock again, as a server that was gone has let go of it. Threads
    other than the one that made this never wait.

    Args:
        place: Begins messages.
        say: Takes one line for a person.
        check: Called between two tries; it may raise to end the waiting.
        longest: Seconds to wait.
    """

    def __init__(
        self, place: str, say: Say = silent, check: Callable[[], None] | None = None, *, longest: float = SHORT
    ) -> None:
        self._place = place
        self._say = say
        self._check = check
        self._longest = longest
        self._thread = threading.get_ident()
        self._inside = False

    def __call__(self, action: Callable[[], T], *, opening: bool = False) -> T:
        """Return what the action returns.

        Args:
            action: What needs the storage.
            opening: It opens the storage: a server that is away may have another address, so that this is raised as
                it is, and so is what waiting does not mend; other processes may make the same tables meanwhile.

        Raises:
            SearchStoppedError: The storage is broken, or was waited for long enough.
        """
        if self._inside or threading.get_ident() != self._thread:
            return action()
        since: float | None = None
        while True:
            try:
                self._inside = True
                result = action()
            except (StorageInternalError, SQLAlchemyError, OSError) as error:
                if opening and _race(error):
                    continue
                if opening and not _locked(error):
                    raise
                since = self._judged(error, since)
            else:
                if since is not None:
                    self._say(f"{self._place}: answers again")
                return result
            finally:
                self._inside = False
            if self._check is not None:
                self._check()
            time.sleep(STEP)

    def over(self, storage: BaseStorage) -> None:
        """Have every operation of a storage wait."""
        for name in OPERATIONS:
            operation = getattr(storage, name, None)
            if operation is not None:
                setattr(storage, name, self._patient(operation))

    def _patient(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def waiting(*values: Any, **named: Any) -> Any:
            return self(lambda: operation(*values, **named))

        return waiting

    def _judged(self, error: Exception, since: float | None) -> float:
        """Return since when the storage is waited for, unless that has no sense or no end."""
        now = time.monotonic()
        began = now if since is None else since
        if passing(error) and now - began < self._longest:
            if since is None:
                self._say(f"{self._place}: {said(error)}; waits for it")
            return began
        waited = "" if since is None else f", for {now - began:.0f} s"
        self._longest = 0.0  # whoever puts things in order now does not wait again
        raise SearchStoppedError(
            f"{self._place}: {said(error)}{waited}; finished trials are kept, and the same command goes on once that "
            "is mended"
        ) from None


def passing(error: BaseException) -> bool:
    """Tell whether a fault of a storage may pass by itself: another's lock, a server that is away."""
    cause = _cause(error)
    if isinstance(cause, PoolTimeoutError | PendingRollbackError | ResourceClosedError):
        return True
    if not isinstance(cause, DBAPIError):
        return False
    text = str(cause.orig)
    if _of_sqlite(cause):
        return isinstance(cause, OperationalError) and ("locked" in text or "busy" in text)
    lost = cause.connection_invalidated or isinstance(cause, OperationalError | InterfaceError | InternalError)
    return lost and getattr(cause.orig, "sqlstate", None) != "53100" and not any(word in text for word in LASTING)


def said(error: BaseException) -> str:
    """Return a fault of a storage in one line, as the database put it."""
    cause = _cause(error)
    text = str(cause.orig if isinstance(cause, DBAPIError) else getattr(cause, "strerror", None) or cause).strip()
    return text.splitlines()[0] if text else type(cause).__name__


def shown(url: str) -> str:
    """Return a storage's URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def _locked(error: BaseException) -> bool:
    """Tell whether another process has a sqlite file locked."""
    return passing(error) and _of_sqlite(_cause(error))


def _of_sqlite(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and "sqlite3" in type(error.orig).__module__


def _race(error: BaseException) -> bool:
    """Tell whether another process made the tables of a storage while this one did."""
    return isinstance(_cause(error), IntegrityError) or "already exists" in said(error)


def _cause(error: BaseException) -> BaseException:
    """Return what Optuna wraps into its own error."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return error
