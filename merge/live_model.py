"""Makes the live model that candidates are written into, and the tokenizer that goes with a recipe's result."""

from math import prod
from typing import Any

import torch

from merge.checkpoint.chat_template import chat_template
from merge.checkpoint.tokenizer import load_tokenizer_of
from merge.errors import CheckpointError, CompatibilityError
from merge.execution.live_state import destinations
from merge.memory.large_pages import move_to_large_pages
from merge.merger import Merger
from merge.planning.plan import Plan
from merge.recipe.schema import Recipe

SLACK = 100_000_000
"""Values that a model may hold beside its weights, such as tables of positions."""


def _check_outline(outline: Any, plan: Plan) -> None:
    """Compare a model without memory with the weights that it is for, before what its config asks for is allocated.

    Raises:
        CompatibilityError: Names or shapes differ, or it needs far more memory than the weights.
    """
    destinations(outline, plan)
    wanted = sum(tensor.numel() for tensor in (*outline.parameters(), *outline.buffers()))
    have = sum(prod(tensor.shape) for tensor in plan.tensors)
    if wanted > 2 * have + SLACK:
        raise CompatibilityError(
            f"{plan.donor}: config.json must describe the weights, got a model of {wanted} values for {have}"
        )


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
            with torch.device("meta"):
                outline = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
            _check_outline(outline, plan)
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
        folder = merger.checkpoint(plan.donor).folder
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
    except CompatibilityError:
        raise
    except Exception as error:  # noqa: BLE001 - each architecture fails in its own way over a config that it cannot have
        said = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{plan.donor}: transformers cannot build it: {type(error).__name__}: {said}") from None
    model.tie_weights()
    model = model.to(device).eval().requires_grad_(False)
    move_to_large_pages(model)
    return model


def load_tokenizer(merger: Merger, recipe: Recipe) -> Any:
    """Return the tokenizer of the recipe's result.

    Raises:
        CheckpointError: The model that gives it has none.
    """
    vocabulary = merger.vocabulary(recipe)
    donor = merger.plan(recipe).donor
    tokenizer = load_tokenizer_of(merger.checkpoint(donor)) if vocabulary is None else vocabulary.tokenizer
    template = chat_template(recipe, merger.checkpoint)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer
