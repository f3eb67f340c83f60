"""What a merge method is: a frozen dataclass whose fields are its parameters, and a kernel.

An instance is a method with the parameters of one tensor filled in. A global parameter is one value, a per-model
parameter a tuple with one value per parent (the base left out, unless the method ignores base models).
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, TypeAlias

import torch

from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel

BaseModel: TypeAlias = Literal["required", "optional", "ignored"]
Cut: TypeAlias = Literal["common", "base", "none"]
"""What the reference merges of vocabularies of several sizes: rows that all have, the base's if all have them, none."""
LARGEST = 1e30
"""Of a parameter: what methods make of one, such as a share of weights, then still is a number in float32."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method.

    Args:
        name: Its name in a recipe.
        per_model: Whether each parent has its own value.
        required: Whether a recipe must give it.
        default: Its value where a recipe is silent.
        low: Lower end of the legal interval; None where there is none.
        above: Whether the lower end itself is not legal.
        high: Upper end of the legal interval; None where there is none.
        search_low: Lower end of the range that a search tries by default.
        search_high: Upper end of that range.
        kind: What the value is.
        about: One line for people.
    """

    name: str
    per_model: bool
    required: bool
    default: float | None
    low: float | None
    high: float | None
    search_low: float | None
    search_high: float | None
    kind: Literal["float", "int", "bool"]
    about: str
    above: bool = False

    def fault(self, value: object) -> str | None:
        """Return what is wrong with a single value, None where it is good."""
        if self.kind == "bool":
            return None if value in (True, False) else f"must be true or false, got {value!r}"
        number = as_number(value)
        if number is None or (self.kind == "int" and number != int(number)):
            return f"must be {'a whole number' if self.kind == 'int' else 'a number'}, got {value!r}"
        if abs(number) > LARGEST:
            return f"must be at most {LARGEST:g} in size, got {value!r}"
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if low <= number <= high and not (self.above and number == low):
            return None
        if self.above:
            return f"must be above {low:g} and at most {high:g}, got {value!r}"
        interval = (
            f"in [{low:g}, {high:g}]"
            if low > -math.inf and high < math.inf
            else (f"at least {low:g}" if low > -math.inf else f"at most {high:g}")
        )
        return f"must be {interval}, got {value!r}"

    def convert(self, value: object) -> float | bool:
        """Return a good value as Python's number of the right type."""
        number = as_number(value)
        assert number is not None
        return bool(number) if self.kind == "bool" else int(number) if self.kind == "int" else number


def as_number(value: object) -> float | None:
    """Return a finite number, also from text such as ``1e-9`` (which YAML reads as a string)."""
    if isinstance(value, bool | int | float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        try:
            return as_number(float(value))
        except ValueError:
            return None
    return None


def per_model(about: str, *, default: float | None = None, required: bool = False, **limits: float) -> Any:
    """Declare a parameter that each parent has for itself."""
    return _field(about, "float", default, limits, per_model=True, required=required)


def number(about: str, *, default: float | None = None, required: bool = False, **limits: float) -> Any:
    """Declare a number that all parents share; ``name=`` where Python's word is not the recipe's."""
    return _field(about, "float", default, limits, required=required)


def whole(about: str, *, default: int, **limits: float) -> Any:
    """Declare a whole number that all parents share."""
    return _field(about, "int", default, limits)


def flag(about: str, *, default: bool) -> Any:
    """Declare a yes or no."""
    return _field(about, "bool", default, {})


def _field(
    about: str,
    kind: Literal["float", "int", "bool"],
    default: float | None,
    limits: dict[str, float],
    *,
    per_model: bool = False,
    required: bool = False,
) -> Any:
    low, high = limits.get("above", limits.get("low")), limits.get("high")
    tried = (limits.get("search_low", low), limits.get("search_high", high))
    parameter = Parameter("", per_model, required, default, low, high, *tried, kind, about, above="above" in limits)
    return dataclasses.field(default=() if per_model else default, metadata={"parameter": parameter})


@dataclass(frozen=True)
class AbstractMethod(ABC):
    """A merge method with its parameters for one tensor."""

    method: ClassVar[str]
    base_model: ClassVar[BaseModel]
    parents: ClassVar[tuple[int, int | None]]
    random: ClassVar[bool]
    widest: ClassVar[bool]
    cut: ClassVar[Cut]

    def __init_subclass__(
        cls,
        *,
        name: str,
        base_model: BaseModel = "ignored",
        parents: tuple[int, int | None] = (1, None),
        random: bool = False,
        widest: bool = False,
        cut: Cut = "none",
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.method, cls.base_model, cls.parents, cls.random, cls.cut = name, base_model, parents, random, cut
        cls.widest = widest  # the reference gives parents of several dtypes the widest of them, not the base's

    @classmethod
    @cache
    def parameters(cls) -> dict[str, Parameter]:
        """Return the parameters by their names in a recipe (``lambda``, where the field is ``lambda_``)."""
        fields = [(field.name.rstrip("_"), field.metadata["parameter"]) for field in dataclasses.fields(cls)]
        return {name: dataclasses.replace(parameter, name=name) for name, parameter in fields}

    @abstractmethod
    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Prepare what needs whole tensors; return the function that merges span by span."""

    def fault(self, size: int, *, compat: bool) -> str | None:  # noqa: ARG002
        """Return what is wrong with these parameters for a tensor of this size, None where nothing is."""
        return None

    def result_dtype(self, dtype: torch.dtype, *, compat: bool) -> torch.dtype:  # noqa: ARG002
        """Return the dtype of the result, given that of the arithmetic or the checkpoints."""
        return dtype


def sum_fault(weights: Sequence[float]) -> str | None:
    """Return what is wrong with weights that a method divides by the sum of, None where nothing is."""
    total = sum(weights)
    if not weights or total >= 1e-8:
        return None
    what = "zero" if total > -1e-8 else "less than zero"
    return f"weight: must not sum to {what} with normalize, got {list(weights)}; set normalize: false"
