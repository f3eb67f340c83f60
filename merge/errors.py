"""The errors of the merge package.

    MergeError
    ├── RecipeError         (ValueError)       the recipe is wrong: keys, ranges, layers, methods
    ├── CheckpointError     (ValueError)       a model folder or adapter cannot be used
    ├── CompatibilityError  (ValueError)       the parents do not fit each other, every difference at once
    ├── OutputError         (OSError)          the result cannot be written
    │   └── OutputTakenError (ValueError)      something else is where the result should go
    └── NumericalError      (ArithmeticError)  a parent or a result is not finite

A message reads ``place: what must hold, got what; remedy``; several faults stand on several lines.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class MergeError(Exception):
    """Anything that stops a merge."""


class RecipeError(MergeError, ValueError):
    """A recipe is wrong; the message has one line per fault."""


class CheckpointError(MergeError, ValueError):
    """A model folder, a hub reference or an adapter cannot be used."""


class CompatibilityError(MergeError, ValueError):
    """The parents do not fit each other; the message has one line per difference."""


class OutputError(MergeError, OSError):
    """The output folder cannot be written."""


class OutputTakenError(OutputError, ValueError):
    """Something that may not be replaced is where the output should go."""


class NumericalError(MergeError, ArithmeticError):
    """A result is NaN or infinite: a failed candidate rather than a wrong recipe."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'X'?"`` for the nearest known word, else an empty string.

    >>> did_you_mean("densty", ["weight", "density"])
    "; did you mean 'density'?"
    """
    near = get_close_matches(word[:200], list(known), n=1, cutoff=0.5)  # a word of a stranger may be a book
    return f"; did you mean '{near[0]}'?" if near else ""
