"""Waiting for a storage that is locked or away; one that is broken, or stays away, ends the run in one line."""

import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
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

IN_A_SEARCH = 900.0
"""Seconds that a search waits for its storage."""
WHILE_READING = 60.0
"""Seconds that a command waits which only reads."""
STEP = 0.25
"""Seconds between two tries."""
LASTING = ("is full", "No space left", "read-only", "readonly")
"""What the messages of errors say that waiting does not mend."""
ERRORS = (StorageInternalError, SQLAlchemyError, OSError)


class StorageWaiter:
    """Runs what needs a storage, again and again while that is locked or away.

    What it runs must be idempotent: a server may be gone after it did what it was asked, and before it said so.

    Args:
        place: Begins messages.
        say: Takes one line for a person.
        check: Called between two tries; it may raise to end the waiting.
        longest: Seconds to wait.
    """

    def __init__(
        self,
        place: str,
        say: Say = silent,
        check: Callable[[], None] = lambda: None,
        *,
        longest: float = WHILE_READING,
    ) -> None:
        self._place = place
        self._say = say
        self._check = check
        self._longest = longest

    def __call__(self, action: Callable[[], T]) -> T:
        """Return what the action returns.

        Raises:
            SearchStoppedError: The storage is broken, or was waited for long enough.
        """
        try:
            return self._run(action, passing)
        except ERRORS as error:
            raise self._stopped(error) from None

    def opening(self, action: Callable[[], T]) -> T:
        """Return what an action returns that opens the storage; wait for another process's lock alone.

        A server that is away may have another address, so that this and all else is raised as it is.
        """
        return self._run(action, lambda error: _locked(error) or _made_meanwhile(error))

    def _run(self, action: Callable[[], T], passes: Callable[[BaseException], bool]) -> T:
        try:
            return action()
        except ERRORS as error:
            if not passes(error):
                raise
            self._say(f"{self._place}: {reason_of(error)}; waits for it")
        result = self._again(action, passes)
        self._say(f"{self._place}: answers again")
        return result

    def _again(self, action: Callable[[], T], passes: Callable[[BaseException], bool]) -> T:
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

        def sleep(seconds: float) -> None:
            self._check()
            time.sleep(seconds)

        sleep(STEP)
        stop, wait = stop_after_delay(self._longest), wait_fixed(STEP)
        retrying = Retrying(retry=retry_if_exception(passes), stop=stop, wait=wait, sleep=sleep, reraise=True)
        return retrying(action)

    def _stopped(self, error: BaseException) -> SearchStoppedError:
        waited = f", for {self._longest:.0f} s" if passing(error) else ""
        self._longest = 0.0  # whoever puts things in order now does not wait again
        return SearchStoppedError(
            f"{self._place}: {reason_of(error)}{waited}; finished trials are kept, and the same command goes on once "
            "that is mended"
        )


def passing(error: BaseException) -> bool:
    """Tell whether a storage's error may pass by itself: another's lock, a server that is away."""
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


def reason_of(error: BaseException) -> str:
    """Return a storage's error in one line, as the database put it."""
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


def _made_meanwhile(error: BaseException) -> bool:
    """Tell whether another process made the tables of a storage while this one did."""
    return isinstance(_cause(error), IntegrityError) or "already exists" in reason_of(error)


def _cause(error: BaseException) -> BaseException:
    """Return what Optuna wraps into its own error."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return error
