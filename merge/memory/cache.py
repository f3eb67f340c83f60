"""What is read or computed once per parent and kept: weights, folded adapters, random fields, thresholds, norms."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import TypeVar, cast

from torch import Tensor

from merge.memory.large_pages import LargePages

T = TypeVar("T")


class ParentCache:
    """A memory of what depends on parents alone.

    Single numbers are kept up to a count, the oldest going first; several threads may ask for them. Tensors are kept as
    long as their budget lasts; beyond it they are made again at each use, which changes time and no result.

    Args:
        budget: Bytes of tensors to keep; 0 keeps none.
        count: How many small values to keep.
    """

    def __init__(self, budget: int = 0, count: int = 200_000) -> None:
        self.budget = budget
        self.count = count
        self._small: OrderedDict[Hashable, object] = OrderedDict()
        self._tensors: dict[Hashable, tuple[Hashable, Tensor]] = {}
        self._arena = LargePages()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value kept under `key`, made and kept if it is not there yet."""
        with self._lock:
            if key in self._small:
                self._small.move_to_end(key)
                return cast("T", self._small[key])
        value = make()
        with self._lock:
            self._small[key] = value
            if len(self._small) > self.count:
                self._small.popitem(last=False)
        return value

    def room(self, size: int) -> bool:
        """Return whether a tensor of so many bytes would be kept."""
        return size <= self.budget

    def holds(self, key: Hashable) -> bool:
        """Return whether a tensor is kept under `key`."""
        return key in self._tensors

    def tensor(self, key: Hashable, make: Callable[[], Tensor], *, version: Hashable = None) -> Tensor:
        """Return the tensor kept under `key`; one of another `version` is replaced."""
        kept = self._tensors.get(key)
        if kept is not None and kept[0] == version:
            return kept[1]
        if kept is not None:
            self.budget += kept[1].nbytes
            del self._tensors[key]
        value = make()
        if value.nbytes <= self.budget:
            self.budget -= value.nbytes
            if value.device.type == "cpu":
                value = self._arena.keep(value) if kept is None else kept[1].copy_(value)
            self._tensors[key] = (version, value)
        return value
