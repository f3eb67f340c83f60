"""Tensor name to layer and component and back; what else of a config depends on the layers."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merge.errors import CheckpointError

COUNT_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_decoder_layers", "depth")
INDEX_KEYS = ("mlp_only_layers", "moe_layers", "full_attn_idxs", "fullatt_block_indexes", "deepstack_visual_indexes")
"""Lists of layers by number, rather than with one entry per layer."""
_NUMBERED = re.compile(r"^(.*?)(\d+)\.(.+)$")
_FIRST = re.compile(r"embed|\bw[tp]e\b|(^|\.)emb_ln")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.(weight|bias)$")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$")
_RECOMPUTED = re.compile(r"rotary_emb\.inv_freq$|\.masked_bias$")


@dataclass(frozen=True)
class LayerStack:
    """Where the decoder layers of a model lie.

    Args:
        prefix: What stands before a layer's number, such as ``model.layers.``.
        count: How many there are.
    """

    prefix: str
    count: int

    def split(self, name: str) -> tuple[int, str] | None:
        """Return layer and component of a tensor, None outside the layers.

        >>> LayerStack("model.layers.", 4).split("model.layers.3.mlp.up_proj.weight")
        (3, 'mlp.up_proj.weight')
        """
        if not self.count or not name.startswith(self.prefix):
            return None
        number, _, rest = name[len(self.prefix) :].partition(".")
        return (int(number), rest) if number.isdigit() and rest else None

    def name(self, layer: int, component: str) -> str:
        """Return the tensor's name."""
        return f"{self.prefix}{layer}.{component}"


def find_layers(
    names: Iterable[str], config: Mapping[str, Any], reference: str, *, required: bool = True
) -> LayerStack:
    """Find the decoder layers: numbered from 0, as many as the config says, the most tensors where in doubt.

    Raises:
        CheckpointError: There are none, though that is required.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for name in names:
        match = _NUMBERED.match(name)
        if match:
            found[match[1]].append(int(match[2]))
    stacks = {prefix: len(set(n)) for prefix, n in found.items() if set(n) == set(range(len(set(n))))}
    if not stacks and not required:
        return LayerStack("", 0)
    if not stacks:
        raise CheckpointError(f"{reference}: must have decoder layers numbered from 0, found none")
    said = layer_count(config)
    prefix = max(stacks, key=lambda stack: (stacks[stack] == said, len(found[stack]), stack))
    return LayerStack(prefix, stacks[prefix])


def is_recomputed(name: str, *, compat: bool = False) -> bool:
    """Return whether a tensor is a buffer that models make themselves; the reference keeps those of GPT-NeoX."""
    return _RECOMPUTED.search(name) is not None and not (compat and name.startswith("gpt_neox."))


def is_head(name: str) -> bool:
    """Return whether a tensor is the output head, which models with tied embeddings lack."""
    return _HEAD.search(name) is not None


def is_embedding(name: str) -> bool:
    """Return whether a tensor is the token embedding."""
    return _EMBEDDING.search(name) is not None


def comes_first(name: str) -> bool:
    """Return whether a tensor outside the layers stands before them (embeddings), rather than after.

    >>> comes_first("gpt_neox.embed_in.weight"), comes_first("embed_out.weight")
    (True, False)
    """
    return _FIRST.search(name) is not None and not is_head(name)


def layer_count(config: Mapping[str, Any]) -> int | None:
    """Return the number of layers that a config states."""
    places = [config, config.get("text_config")]
    return next(
        (int(p[key]) for p in places if isinstance(p, Mapping) for key in COUNT_KEYS if isinstance(p.get(key), int)),
        None,
    )


def with_layers(config: Mapping[str, Any], taken: Sequence[int]) -> dict[str, Any]:
    """Return a config for the given layers of its model: their number, and every list with one entry per layer.

    Raises:
        CheckpointError: Dense layers of a mixture of experts would not come first, which its config cannot say.
    """
    count = layer_count(config)
    result: dict[str, Any] = {}
    for key, value in config.items():
        if key == "text_config" and isinstance(value, Mapping):
            result[key] = with_layers(value, taken)
        elif key in COUNT_KEYS and value == count:
            result[key] = len(taken)
        elif key == "first_k_dense_replace" and isinstance(value, int):
            result[key] = _dense_first([layer < value for layer in taken])
        elif key in INDEX_KEYS and isinstance(value, list):
            result[key] = [place for place, layer in enumerate(taken) if layer in value]
        elif "layer" in key and isinstance(value, list) and len(value) == count:
            result[key] = [value[layer] for layer in taken if layer < len(value)]
        else:
            result[key] = value
    return result


def _dense_first(dense: Sequence[bool]) -> int:
    count = sum(dense)
    if not all(dense[:count]):
        raise CheckpointError("first_k_dense_replace: dense layers must come before those with experts; reorder slices")
    return count
