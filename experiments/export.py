"""What a winner leaves with: its recipe as a file, its weights as a model folder with a card."""

from collections.abc import Sequence
from pathlib import Path

import typer

from experiments.atomic import write_text_atomically
from experiments.build import shard_size
from experiments.errors import InputError
from experiments.folder import StudyFolder, find_finished
from experiments.roots import models_roots as all_roots
from merge.engine import Merger
from merge.recipe import load_recipes
from search.study import load_study


def export_winner(
    study: Path,
    recipe: Path | None,
    model: Path | None,
    *,
    models_roots: Sequence[Path] | None,
    out_shard_size: str,
    force: bool,
) -> None:
    """Write the winner of a finished study; recipe, model folder, or both.

    Raises:
        InputError: The study has no winner, nothing is asked for, or a file is in the way.
        merge.errors.MergeError: A parent is missing; nothing is written.
        OSError: The disk is full; nothing is left under the final name.
    """
    folder = find_finished(study)
    if recipe is None and model is None:
        raise InputError("export: must be told what to write: --recipe FILE, --model DIR, or both")
    if recipe is not None and recipe.exists() and not force:
        raise InputError(f"--recipe {recipe}: is there already; use --force to replace it")
    if model is not None:
        _write_model(folder, model, models_roots, shard_size(out_shard_size), force=force)
        typer.echo(f"weights: {model}")
    if recipe is not None:
        write_text_atomically(recipe, folder.best.read_text(encoding="utf-8"))
        typer.echo(f"recipe: {recipe}")


def _write_model(folder: StudyFolder, out: Path, roots: Sequence[Path] | None, size: int, *, force: bool) -> None:
    (winner,) = load_recipes(folder.best)
    seed = load_study(folder.study).file.search.seed
    merger = Merger(all_roots(roots), seed=seed)
    merger.merge_to_folder(winner, out, seed=seed, out_shard_size=size, force=force)
    card = (out / "README.md").read_text(encoding="utf-8")
    found = folder.table.read_text(encoding="utf-8")
    write_text_atomically(out / "README.md", f"{card}\n## How it was found\n\n{found}")
    write_text_atomically(out / "mergesearch_study.yaml", folder.study.read_text(encoding="utf-8"))
