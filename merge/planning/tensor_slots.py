"""The parts of a plan: slices, the places of tensors in them, and the parameters that are filled in."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from merge.method import AbstractMethod
from merge.planning.parameters import Scope, filled


@dataclass(frozen=True)
class Place:
    """One tensor before its parameters are known: which slice, where in it, and its name in each source."""

    output: str
    piece: "Piece"
    depth: float
    inputs: dict[str, str]
    vocabulary: bool = False


@dataclass(frozen=True)
class Piece:
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
class Filling:
    """Fills in the parameters of tensors; once for all of a slice where no value depends on the tensor."""

    method: type[AbstractMethod]
    pieces: Sequence[Piece]
    _uniform: list[bool] = field(init=False)
    _known: dict[tuple[int, tuple[str, ...]], tuple[AbstractMethod | None, list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._uniform = [piece.scope.uniform for piece in self.pieces]

    def __call__(self, place: Place, pairs: Sequence[tuple[str, str]]) -> tuple[AbstractMethod | None, list[str]]:
        """Return the method for one tensor, or None and what is missing."""
        scope = self.pieces[place.piece.number].scope
        if not self._uniform[place.piece.number]:
            return filled(self.method, scope, pairs, place.output, place.depth)
        key = (place.piece.number, tuple(reference for reference, _ in pairs))
        if key not in self._known:
            self._known[key] = filled(self.method, scope, pairs, place.output, place.depth)
        return self._known[key]
