"""The Pareto front: candidates that no other beats in every task."""

from collections.abc import Sequence


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether one is at least as good everywhere and better somewhere; larger is better.

    >>> dominates((1.0, 2.0), (1.0, 1.0)), dominates((1.0, 2.0), (2.0, 1.0))
    (True, False)
    """
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Return the places of the points that no other dominates, in the order given; of equal points the first."""
    return [
        place
        for place, point in enumerate(points)
        if not any(dominates(other, point) or (other == point and i < place) for i, other in enumerate(points))
    ]
