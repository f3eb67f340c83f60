"""How large a forward pass may be, from the memory that is free where the model is, and who keeps what it frees."""

import math
from typing import Any

import psutil
import torch

from evals.engines.live.scoring_plan import ROW, PassBudget

CPU_TOKENS = 2048
"""On a CPU larger passes are no faster: the matrix products are at full rate and the activations leave the cache."""
MOST_TOKENS = 16_384
_LEAST_TOKENS = 256
LARGEST_KEPT = 31 << 20
"""A little below the largest block, 32 MiB, up to which glibc's allocator can be made to keep blocks."""
_SHARE = 0.5
_KEYS = 2048
"""So many keys per query are reckoned with where attention scores are held in memory."""


def keep_freed_memory(device: torch.device) -> None:
    """On a CPU, make glibc's allocator keep freed blocks of activations, instead of giving them back to the system.

    It gives back whatever is more than twice the largest block that it ever took from the system on its own and got
    freed. Passes free several blocks of a few MiB in every layer, and to take them anew means a page fault per 4 KiB:
    8 to 10 % of a pass of 1,024 tokens. One larger block, taken, never touched and freed, ends that: the process then
    keeps up to 62 MiB. Other allocators are left as they are. Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    if device.type == "cpu":
        torch.empty(LARGEST_KEPT, dtype=torch.uint8)


def free_bytes(device: torch.device) -> int:
    """Return the bytes that a pass could take, of a GPU with what its allocator keeps in reserve."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return int(psutil.virtual_memory().available)


def budget_for(model: Any, device: torch.device, free: int | None = None) -> PassBudget:
    """Return the limits of one pass: half of the free memory for activations, a quarter of that for logits.

    Args:
        model: A causal language model of transformers.
        device: Where it is.
        free: Bytes; unset asks the device.
    """
    share = _SHARE * (free_bytes(device) if free is None else free)
    config = getattr(model.config, "text_config", None) or model.config
    width = int(getattr(config, "hidden_size", 1024))
    inner = int(getattr(config, "intermediate_size", None) or 4 * width)
    vocabulary = int(model.get_input_embeddings().num_embeddings)
    size = next(iter(model.parameters())).element_size()
    per_token = size * (12 * width + 3 * inner)
    if device.type != "cpu":
        per_token += 12 * _KEYS * int(getattr(config, "num_attention_heads", 16))
    most = CPU_TOKENS if device.type == "cpu" else MOST_TOKENS
    tokens = power_below(min(most, max(_LEAST_TOKENS, 0.75 * share / per_token)))
    logits = power_below(min(tokens / 2, max(32, 0.25 * share / (vocabulary * (size + 8)))))
    return PassBudget(tokens, logits, min(ROW, tokens), segments=device.type == "cpu")


def power_below(limit: float) -> int:
    """Return the largest power of two within `limit`, so that a little more or less memory changes nothing."""
    return int(2 ** math.floor(math.log2(limit)))
