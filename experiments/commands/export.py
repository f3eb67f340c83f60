"""``mergesearch export``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import ModelsRoot
from experiments.exit_codes import explained


def export_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study.")],
    recipe: Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="Write the winner's recipe.")] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Write weights, tokenizer and card.")
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", metavar="USER/NAME", help="Upload to the hub, with the hub's own token.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A repository that is made is private.")] = False,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Licence; default: what the parents' allow.")
    ] = None,
    models_root: ModelsRoot = None,
    out_shard_size: Annotated[str, typer.Option("--out-shard-size", help="Largest shard, with K, M or B.")] = "5B",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Export the winner of a finished study: its recipe, its weights with a model card, a place on the hub."""
    from experiments.release.export import ExportOptions, export_winner

    options = ExportOptions(recipe, model, push, private, license_, out_shard_size, force)
    with explained():
        export_winner(study, options, models_roots=models_root)
