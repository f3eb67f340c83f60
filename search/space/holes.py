"""A hole: the place in a recipe that the search fills, read into an Optuna distribution."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.errors import SpaceError

Scalar = None | bool | int | float | str
"""What a filled hole can hold."""

LONGEST = 1000
"""Values of a gradient; no model has more layers."""
WIDEST = 1e300
"""How far a bound may lie from 0: so that no difference of two overflows."""
MOST_STEPS = 10**9
"""Into which a range may be divided: Optuna cannot count to more than 28 digits, and floats not to more than 15."""
_SHARED_KEYS: dict[str, dict[str, object]] = {
    "gradient": {
        "description": "Number of values spread over the layers, each searched on its own; unset: one value.",
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": LONGEST,
        "default": None,
    },
    "name": {
        "description": "Holes of one name take one value; unset: a name made from the path.",
        "type": ["string", "null"],
        "minLength": 1,
        "default": None,
    },
}
RANGE_KEYS: dict[str, dict[str, object]] = {
    "low": {"description": "Lowest value.", "type": "number", "minimum": -WIDEST, "maximum": WIDEST},
    "high": {"description": "Highest value.", "type": "number", "minimum": -WIDEST, "maximum": WIDEST},
    "step": {
        "description": "Only `low`, `low + step`, `low + 2 step` ...; not with `log`; unset: every value.",
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
    },
    "log": {
        "description": "Search on a logarithmic scale; `low` is then above 0.",
        "type": "boolean",
        "default": False,
    },
    "int": {"description": "Whole numbers only.", "type": "boolean", "default": False},
    **_SHARED_KEYS,
}
"""Keys of a hole that is a range, each as a JSON schema."""
CHOICE_KEYS: dict[str, dict[str, object]] = {
    "choices": {
        "description": "The values to choose from, each once.",
        "type": "array",
        "minItems": 1,
        "items": {"type": ["number", "string", "boolean", "null"]},
    },
    **_SHARED_KEYS,
}
"""Keys of a hole that is a choice, each as a JSON schema."""
_MARKS = {"low", "high", "choices"}


@dataclass(frozen=True)
class Hole:
    """An unset value of a recipe.

    Attributes:
        distribution: What may stand there.
        gradient: Number of values spread over depth, each searched on its own; None for a single value.
        name: Shared name; holes of one name take one value. None for a name made from the path.
    """

    distribution: BaseDistribution
    gradient: int | None = None
    name: str | None = None


def is_hole(node: object) -> bool:
    """Tell whether a node of a family's document is a hole (no key of a recipe is called so)."""
    return isinstance(node, Mapping) and bool(_MARKS & set(node))


def parse_hole(node: Mapping[str, object], place: str) -> Hole:
    """Read a hole.

    Args:
        node: ``{low, high, step, log, int}`` or ``{choices}``, either with ``gradient`` and ``name``.
        place: File and YAML path, for messages.

    Raises:
        SpaceError: A key, a bound or a choice is wrong.
    """
    allowed = CHOICE_KEYS if "choices" in node else RANGE_KEYS
    for key in node:
        if key not in allowed:
            near = get_close_matches(str(key), sorted(allowed), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"a hole takes {', '.join(sorted(allowed))}"
            raise SpaceError(f"{place}.{key}: unknown key in a hole; {hint}")
    distribution = _choices(node, place) if "choices" in node else _range(node, place)
    return Hole(distribution, _gradient(node, place), _name(node, place))


def contains(distribution: BaseDistribution, value: object) -> bool:
    """Tell whether a value may stand in a hole, by value and not by type (1 and 1.0 are the same number)."""
    if isinstance(distribution, CategoricalDistribution):
        return any(_same(value, choice) for choice in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        return False
    if not distribution.low <= value <= distribution.high:
        return False
    step = distribution.step
    if step is None:
        return True
    steps = (value - distribution.low) / step
    return math.isclose(steps, round(steps), abs_tol=1e-8)


def ends(distribution: BaseDistribution) -> tuple[Scalar, ...]:
    """Return the extreme values of a hole: both bounds, or every choice."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return (distribution.low, distribution.high)


def middle(distribution: BaseDistribution) -> Scalar:
    """Return the middle of a range (geometric under ``log``), on its grid; of choices the first."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    value = math.sqrt(low * high) if distribution.log else (low + high) / 2
    if distribution.step is not None:
        value = low + round((value - low) / distribution.step) * distribution.step
    return round(value) if isinstance(distribution, IntDistribution) else value


def _same(one: object, other: object) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def _range(node: Mapping[str, object], place: str) -> BaseDistribution:
    missing = [key for key in ("low", "high") if key not in node]
    if missing:
        raise SpaceError(f"{place}: a hole needs both low and high, {missing[0]} is missing")
    whole = _flag(node, "int", place)
    low, high = (_number(node[key], f"{place}.{key}", whole=whole) for key in ("low", "high"))
    if low > high:
        raise SpaceError(f"{place}: low <= high must hold, got low={low:g}, high={high:g}; swap them")
    log = _flag(node, "log", place)
    if log and low <= 0:
        raise SpaceError(f"{place}.low: must be above 0 where log is true, got {low:g}")
    step = None
    if node.get("step") is not None:
        step = _number(node["step"], f"{place}.step", whole=whole)
        if step <= 0:
            raise SpaceError(f"{place}.step: must be above 0, got {step:g}")
        if (high - low) / step > MOST_STEPS:
            raise SpaceError(f"{place}.step: must divide the range into at most {MOST_STEPS:,} steps, got {step:g}")
        if log:
            raise SpaceError(f"{place}.step: cannot stand with log: true; drop one of them")
    if whole:
        grid = int(step or 1)
        return IntDistribution(int(low), int(low) + (int(high) - int(low)) // grid * grid, log=log, step=grid)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna lowers a high that is not on the grid, as we want
        return FloatDistribution(low, high, log=log, step=step)


def _choices(node: Mapping[str, object], place: str) -> BaseDistribution:
    choices = node["choices"]
    if not isinstance(choices, list) or not choices:
        raise SpaceError(f"{place}.choices: must be a list of at least one value, got {choices!r}")
    for index, choice in enumerate(choices):
        if choice is not None and not isinstance(choice, bool | int | float | str):
            raise SpaceError(f"{place}.choices[{index}]: must be a number, text, true or false, got {choice!r}")
        if any(_same(choice, earlier) for earlier in choices[:index]):
            raise SpaceError(f"{place}.choices[{index}]: {choice!r} is there twice; remove one")
    return CategoricalDistribution(choices)


def _number(value: object, place: str, *, whole: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= WIDEST:
        raise SpaceError(f"{place}: must be a finite number of at most {WIDEST:g}, got {value!r}")
    if whole and value != int(value):
        raise SpaceError(f"{place}: must be a whole number where int is true, got {value!r}")
    return float(value)


def _flag(node: Mapping[str, object], key: str, place: str) -> bool:
    value = node.get(key, False)
    if not isinstance(value, bool):
        raise SpaceError(f"{place}.{key}: must be true or false, got {value!r}")
    return value


def _gradient(node: Mapping[str, object], place: str) -> int | None:
    value = node.get("gradient")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST:
        raise SpaceError(f"{place}.gradient: must be a whole number of at least 1 and at most {LONGEST}, got {value!r}")
    return value


def _name(node: Mapping[str, object], place: str) -> str | None:
    value = node.get("name")
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise SpaceError(f"{place}.name: must be a text of one line, got {value!r}")
    return value
