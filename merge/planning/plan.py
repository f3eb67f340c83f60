"""What a plan is: for each output tensor its sources, its method and its parameters.

What stands here for each tensor is a named tuple: every candidate makes, hashes and compares them, which costs a merge
in memory a tenth of its time with dataclasses.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from merge.method import AbstractMethod


class Ingredient(NamedTuple):
    """A tensor of a parent."""

    reference: str
    name: str


class TensorPlan(NamedTuple):
    """What one output tensor is made of.

    Args:
        name: Its name.
        shape: Its shape; a parent with a larger one is cut (only where that was allowed).
        dtype: Its dtype when written.
        method: The method with this tensor's parameters.
        parents: The tensors it is merged from.
        base: The base model's tensor, if the method has one.
        vocabulary: Whether it has a row per token.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    method: AbstractMethod
    parents: tuple[Ingredient, ...]
    base: Ingredient | None
    vocabulary: bool = False

    def with_method(self, method: AbstractMethod) -> "TensorPlan":
        """Return the same tensor with other parameters."""
        return self._replace(method=method)


@dataclass(frozen=True)
class Plan:
    """A whole model's plan.

    Args:
        tensors: In the order to merge them.
        config: The result's config.
        donor: Reference of the model that gives config, tokenizer and generation settings.
    """

    tensors: tuple[TensorPlan, ...]
    config: dict[str, Any]
    donor: str
