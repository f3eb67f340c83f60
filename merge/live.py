"""Sink: a resident model, written in place. Making such a model, and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from merge.chat_template import chat_template
from merge.errors import CheckpointError, CompatibilityError
from merge.layers import is_head
from merge.planned import Plan
from merge.recipe import Recipe
from merge.tokenizer import load_tokenizer_of

if TYPE_CHECKING:
    from merge.engine import Merger


@dataclass(frozen=True)
class MergeStats:
    """What a merge into a live model took.

    Args:
        seconds: Wall clock.
        tensors_written: Tensors that were merged.
        tensors_skipped: Tensors that already held their values.
        bytes_read: Size of the parents' tensors that took part.
        bytes_written: Size of the model's tensors that were written.
    """

    seconds: float
    tensors_written: int
    tensors_skipped: int
    bytes_read: int
    bytes_written: int


class LiveState:
    """What a merger last wrote into the tensors of one model."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[object, int, int]] = {}

    def holds(self, name: str, signature: object, target: Tensor) -> bool:
        """Return whether the tensor still is what this signature gave."""
        return self._written.get(name) == (signature, target.data_ptr(), target._version)

    def forget(self, name: str) -> None:
        """Note that the tensor is about to change."""
        self._written.pop(name, None)

    def wrote(self, name: str, signature: object, target: Tensor) -> None:
        """Note what the tensor holds now."""
        self._written[name] = (signature, target.data_ptr(), target._version)


def destinations(model: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """Return the model's tensor for each of the plan's; a head that the model ties to its embedding is left out.

    Raises:
        CompatibilityError: Names or shapes differ; every difference is listed.
    """
    state: dict[str, Tensor] = {name: tensor.detach() for name, tensor in model.state_dict(keep_vars=True).items()}
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    found: dict[str, Tensor] = {}
    faults = []
    for tensor in plan.tensors:
        names = (tensor.name, prefix + tensor.name, tensor.name.removeprefix(prefix))
        name = next((name for name in names if name in state), None)
        if name is None:
            faults.append(f"{tensor.name}: the live model has no such tensor")
        elif tuple(state[name].shape) != tensor.shape:
            faults.append(
                f"{tensor.name}: must be {list(tensor.shape)} in the live model, got {list(state[name].shape)}"
            )
        elif not state[name].is_contiguous():
            faults.append(f"{tensor.name}: must be contiguous in the live model")
        else:
            found[tensor.name] = state[name]
    places = {tensor.data_ptr() for name, tensor in found.items() if not is_head(name)}
    written = {tensor.data_ptr() for tensor in found.values()}
    faults += [f"{name}: the recipe gives no such tensor" for name, t in state.items() if t.data_ptr() not in written]
    if faults:
        more = f"\nand {len(faults) - 20} more" if len(faults) > 20 else ""
        raise CompatibilityError("\n".join(faults[:20]) + more + "; make the model with new_live_model")
    return {name: tensor for name, tensor in found.items() if not (is_head(name) and tensor.data_ptr() in places)}


def new_live_model(merger: Merger, recipe: Recipe, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """Return a model of the recipe's architecture, in evaluation mode and without gradients; its weights are unset.

    Raises:
        CheckpointError: transformers does not know the architecture.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
    from transformers.initialization import no_init_weights

    plan = merger.plan(recipe)
    try:
        config = AutoConfig.for_model(**plan.config)
        with no_init_weights():
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{plan.donor}: transformers cannot build it: {str(error).splitlines()[0]}") from None
    folder = merger.checkpoint(plan.donor).folder
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    model.tie_weights()
    return model.to(device).eval().requires_grad_(False)


def load_tokenizer(merger: Merger, recipe: Recipe) -> Any:
    """Return the tokenizer of the recipe's result.

    Raises:
        CheckpointError: The model that gives it has none.
    """
    words = merger.vocabulary(recipe)
    donor = merger.plan(recipe).donor
    tokenizer = load_tokenizer_of(merger.checkpoint(donor)) if words is None else words.tokenizer
    template = chat_template(recipe, merger.checkpoint)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer
