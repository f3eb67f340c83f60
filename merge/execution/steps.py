"""Merges of single tensors, prepared first and run together.

A pass over memory empties the caches, and Python that prepares the next one then waits for memory at every object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from merge.architecture.layers import is_recomputed
from merge.errors import NumericalError

if TYPE_CHECKING:
    from torch import Tensor

    from merge.execution.live_state import LiveState

TOGETHER = 256 << 20
"""Bytes of parents whose merges are prepared before the first of them runs; what they need lives as long."""


class Step(NamedTuple):
    """The merge of one tensor, ready to run.

    Args:
        name: The tensor's name.
        write: Writes it; returns something true if every entry is finite.
        reads: Bytes that its parents hold.
        needs: What must not go before it has run: `write` may know mere addresses.
        waits: Whether it can wait for others; False for what holds much memory until it has run.
    """

    name: str
    write: Callable[[], object]
    reads: int
    needs: object
    waits: bool

    def run(self) -> None:
        """Write the tensor.

        Raises:
            NumericalError: The result is not finite.
        """
        if not self.write() and not is_recomputed(self.name):
            raise NumericalError(f"{self.name}: the result must be finite, got NaN or infinity")


class LiveSteps:
    """Runs steps that write into a live model, several together, and notes what was written.

    Args:
        state: What the model's tensors hold.
    """

    def __init__(self, state: LiveState) -> None:
        self.written = self.bytes_read = self.bytes_written = 0
        self._state = state
        self._waiting: list[tuple[Step, object, Tensor | None]] = []
        self._size = 0

    def add(self, step: Step, signature: object, target: Tensor | None) -> None:
        """Take a step whose target, if the model has one, then holds what the signature gives."""
        self._waiting.append((step, signature, target))
        self._size += step.reads
        if self._size >= TOGETHER or not step.waits:
            self.run()

    def run(self) -> None:
        """Run all steps that wait.

        Raises:
            NumericalError: A result is not finite.
        """
        waiting, self._waiting, self._size = self._waiting, [], 0
        for step, signature, target in waiting:
            step.run()
            self.bytes_read += step.reads
            if target is not None:
                self._state.wrote(step.name, signature, target)
                self.written += 1
                self.bytes_written += target.nbytes
