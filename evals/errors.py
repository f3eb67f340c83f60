"""Errors of the evals package.

EvalError
├── TaskError (ValueError)       a task or metric that is not known, or asked for in a wrong way
├── DataError (ValueError)       questions that cannot be had: file, schema, number of rows, hub
│   └── MissingDataError         a task's files are not in the data folder
├── EngineError (ValueError)     an engine that is not installed
└── ScoringError (RuntimeError)  a model that cannot be scored: NaN logits, out of memory
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EvalError(Exception):
    """Root of everything that this package raises on purpose."""


class TaskError(EvalError, ValueError):
    """A task or metric is unknown or asked for in a way that cannot work."""


class DataError(EvalError, ValueError):
    """Questions cannot be had: missing file, wrong schema, too few rows, hub unreachable."""


class MissingDataError(DataError):
    """A task's files are not in the data folder."""


class EngineError(EvalError, ValueError):
    """An engine cannot be used here; the message says how to install it."""


class ScoringError(EvalError, RuntimeError):
    """The model cannot be scored: NaN logits or out of memory; a failed candidate, not bad input."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error is a lack of memory; torch has a plain RuntimeError for one on a CPU."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "allocate memory" in str(error))


def reason(error: BaseException) -> str:
    """Return a library's error as ``Type: first line of its message``."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x' or 'y'?`` for the names closest to `name`, or an empty string."""
    close = get_close_matches(name, sorted(set(known)), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
