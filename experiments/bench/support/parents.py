"""Writes the models that a bench merges, as plain safetensors folders in one dtype."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from merge.merger import Merger
from merge.recipe.schema import Recipe

NOISE = 0.02
"""Standard deviation of the third fine-tune's difference, relative to each tensor's own."""


def write_parent(source: str, folder: Path, dtype: str) -> None:
    """Write a model as a folder.

    Args:
        source: A model folder, or ``BASE+ADAPTER`` with a LoRA adapter to fold in.
        folder: A folder that does not exist yet.
        dtype: ``bfloat16`` or ``float32``.
    """
    document = {"merge_method": "passthrough", "models": [{"model": source}], "dtype": dtype}
    Merger().merge_to_folder(Recipe.from_mapping(document, place=source), folder)


def write_fine_tunes(base: Path, adapters: Sequence[Path], folder: Path, dtype: str) -> Path:
    """Write ``base`` and ``tuned1`` to ``tuned3`` below a folder: two with an adapter, the third with noise."""
    sources = [str(base), *(f"{base}+{adapter}" for adapter in adapters)]
    for name, source in zip(("base", "tuned1", "tuned2"), sources, strict=True):
        write_parent(source, folder / name, dtype)
    shutil.copytree(folder / "base", folder / "tuned3")
    noise = torch.Generator().manual_seed(0)
    tensors = load_file(folder / "base" / "model.safetensors")
    for name, tensor in tensors.items():
        change = torch.randn(tensor.shape, generator=noise) * tensor.float().std(unbiased=False) * NOISE
        tensors[name] = (tensor.float() + change).to(tensor.dtype)
    save_file(tensors, folder / "tuned3" / "model.safetensors", metadata={"format": "pt"})
    return folder
