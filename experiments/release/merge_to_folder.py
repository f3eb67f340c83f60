"""Builds the model folder of a recipe file."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from experiments.devices import usable_device
from experiments.errors import InputError
from experiments.models_roots import models_roots as all_roots
from merge.door import merge_recipe
from merge.recipe.schema import DTYPES

_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class BuildOptions:
    """How a folder is built; the names are those of the command line."""

    seed: int = 0
    compat: str | None = None
    out_shard_size: str = "5B"
    copy_tokenizer: bool = True
    write_model_card: bool = True
    allow_crimes: bool = False
    allow_nan: bool = False
    allow_pickle: bool = False
    force: bool = False
    device: str = "cpu"
    lora_merge_dtype: str | None = None
    hub_cache: Path | None = None
    quiet: bool = False


def build_model(recipe: Path, out: Path, *, models_roots: Sequence[Path] | None, options: BuildOptions) -> Path:
    """Merge a recipe file into a folder and say where it is.

    Raises:
        InputError: An option is wrong.
        merge.errors.MergeError: The recipe or a parent is wrong; nothing is written.
    """
    if options.compat not in (None, "mergekit"):
        raise InputError(f"--compat: must be 'mergekit', got '{options.compat}'")
    size = shard_size(options.out_shard_size)
    if options.lora_merge_dtype is not None and options.lora_merge_dtype.removeprefix("torch.") not in DTYPES:
        known = ", ".join(DTYPES)
        raise InputError(f"--lora-merge-dtype: must be one of {known}, got '{options.lora_merge_dtype}'")
    if options.hub_cache is not None:
        os.environ["HF_HUB_CACHE"] = str(options.hub_cache)
    roots = all_roots(models_roots)
    with warnings.catch_warnings(record=True) as told:
        folder = merge_recipe(
            recipe,
            out,
            models_root=roots,
            device=usable_device(options.device),
            random_seed=options.seed,
            compat=options.compat,
            lora_merge_dtype=options.lora_merge_dtype,
            allow_crimes=options.allow_crimes,
            allow_nan=options.allow_nan,
            allow_pickle=options.allow_pickle,
            out_shard_size=size,
            copy_tokenizer=options.copy_tokenizer,
            write_model_card=options.write_model_card,
            force=options.force,
        )
    for text in dict.fromkeys(str(warning.message) for warning in told):
        typer.echo(f"warning: {text}", err=True)
    if not options.quiet:
        typer.echo(f"merged model: {folder}")
    return folder


def shard_size(text: str) -> int:
    """Return a size in bytes; K, M and B (or G) are decimal, as in mergekit.

    Raises:
        InputError: It is no size.
    """
    unit = _UNITS.get(text[-1:].upper(), 1)
    number = text[:-1] if unit > 1 else text
    try:
        size = int(float(number) * unit)
    except ValueError:
        size = 0
    if size <= 0:
        raise InputError(f"--out-shard-size: must be a number of bytes such as 5B or 500M, got '{text}'")
    return size
