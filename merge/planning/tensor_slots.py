"""The parts of a plan: slices, the slots of tensors in them, and the parameters that are filled in."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from merge.method import AbstractMethod
from merge.planning.parameters import Scope, filled


@dataclass(frozen=True)
class TensorSlot:
    """One tensor before its parameters are known: which slice, where in it, and its name in each source."""

    output: str
    planned_slice: "PlannedSlice"
    depth: float
    inputs: dict[str, str]
    vocabulary: bool = False


@dataclass(frozen=True)
class PlannedSlice:
    """A slice: sources with layer ranges, the base's reference, parameters."""

    number: int
    sources: tuple[tuple[str, tuple[int, int]], ...]
    base: str | None
    scope: Scope

    @property
    def length(self) -> int:
        """Number of layers."""
        first, last = self.sources[0][1]
        return last - first


@dataclass
class ParameterFiller:
    """Fills in the parameters of tensors; once for all of a slice where no value depends on the tensor."""

    method: type[AbstractMethod]
    slices: Sequence[PlannedSlice]
    _uniform: list[bool] = field(init=False)
    _known: dict[tuple[int, tuple[str, ...]], tuple[AbstractMethod | None, list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._uniform = [piece.scope.uniform for piece in self.slices]

    def __call__(self, slot: TensorSlot, pairs: Sequence[tuple[str, str]]) -> tuple[AbstractMethod | None, list[str]]:
        """Return the method for one tensor, or None and what is missing."""
        scope = self.slices[slot.planned_slice.number].scope
        if not self._uniform[slot.planned_slice.number]:
            return filled(self.method, scope, pairs, slot.output, slot.depth)
        key = (slot.planned_slice.number, tuple(reference for reference, _ in pairs))
        if key not in self._known:
            self._known[key] = filled(self.method, scope, pairs, slot.output, slot.depth)
        return self._known[key]
