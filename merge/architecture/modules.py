"""Modules of a model that has several, such as a text decoder and a vision tower: which tensors each one holds.

A recipe names a module by its role (``text_decoder``, ``vision_tower``, ``multi_modal_projector``, ``audio_tower``), by
the beginning of its tensors' names (``language_model``), or as ``default`` for all that no other module holds.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

TEXT = "text_decoder"
DEFAULT = "default"
_ROLES = {
    "multi_modal_projector": re.compile(
        r"(^|\.)(multi_modal_projector|mm_projector|visual\.(deepstack_)?merger(_list)?|connector|aligner|modality_projection)\."
    ),
    "vision_tower": re.compile(r"(^|\.)(vision_tower|vision_model|vision_encoder|vision_backbone|visual|vpm)\."),
    "audio_tower": re.compile(r"(^|\.)(audio_tower|audio_encoder|speech_encoder)\."),
}
_SECTIONS = {"vision_tower": "vision_config", "audio_tower": "audio_config"}


def role(name: str) -> str:
    """Return the role of the module that a tensor belongs to.

    >>> role("visual.merger.mlp.0.weight"), role("visual.blocks.0.norm1.weight"), role("lm_head.weight")
    ('multi_modal_projector', 'vision_tower', 'text_decoder')
    """
    return next((found for found, pattern in _ROLES.items() if pattern.search(name)), TEXT)


def roles(names: Iterable[str]) -> tuple[str, ...]:
    """Return the roles of a model's tensors, one for a plain language model."""
    return tuple(dict.fromkeys(role(name) for name in names))


def owner(name: str, modules: Collection[str]) -> str | None:
    """Return which of the modules of a recipe holds a tensor: by name, by role, or the default one; None if none does.

    >>> owner("language_model.model.norm.weight", ["language_model", "vision_tower"])
    'language_model'
    """
    named = [module for module in modules if name.startswith((f"{module}.", f"model.{module}."))]
    if named:
        return max(named, key=len)
    return next((module for module in (role(name), DEFAULT) if module in modules), None)


def section(config: Mapping[str, Any], of: str) -> str | None:
    """Return the key of the part of a config that describes a role, None where that is the whole of it."""
    key = _SECTIONS.get(of)
    return key if key is not None and isinstance(config.get(key), Mapping) else None
