"""Builds the model folder of a recipe file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from experiments.errors import InputError
from experiments.roots import models_roots as all_roots
from merge.recipe import load_recipes
from merge.stages import merge_stages

_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class BuildOptions:
    """How a folder is built; the names are those of the command line."""

    seed: int = 0
    compat: str | None = None
    out_shard_size: str = "5B"
    copy_tokenizer: bool = True
    allow_crimes: bool = False
    allow_nan: bool = False
    force: bool = False
    device: str = "cpu"


def build_model(recipe: Path, out: Path, *, models_roots: Sequence[Path] | None, options: BuildOptions) -> Path:
    """Merge a recipe file into a folder and say where it is.

    Raises:
        InputError: An option is wrong.
        merge.errors.MergeError: The recipe or a parent is wrong; nothing is written.
    """
    if options.compat not in (None, "mergekit"):
        raise InputError(f"--compat: must be 'mergekit', got '{options.compat}'")
    size = shard_size(options.out_shard_size)
    crimes = {"device": options.device, "allow_crimes": options.allow_crimes, "allow_nan": options.allow_nan}
    folder = merge_stages(
        load_recipes(recipe),
        out,
        models_roots=all_roots(models_roots),
        seed=options.seed,
        compat=options.compat is not None,
        merger_options=crimes,
        out_shard_size=size,
        copy_tokenizer=options.copy_tokenizer,
        force=options.force,
    )
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
