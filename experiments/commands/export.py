"""``mergesearch export``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import OUTPUT, ModelsRoot, OutShardSize
from experiments.exit_codes import explained

HUB = "Upload"


def export_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study, as runs/NAME.")],
    models_root: ModelsRoot = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="FILE", rich_help_panel=OUTPUT, help="Write the winner's recipe."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="DIR", rich_help_panel=OUTPUT, help="Write weights, tokenizer and model card."),
    ] = None,
    out_shard_size: OutShardSize = "5B",
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=OUTPUT, help="Replace what is there already.")
    ] = False,
    license_: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="ID",
            rich_help_panel=OUTPUT,
            help="Licence of the model. Default: what the parents allow.",
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="USER/NAME", rich_help_panel=HUB, help="Upload, with the hub's own token."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", rich_help_panel=HUB, help="Make the repository private, if it is new.")
    ] = False,
) -> None:
    """Write the winner of a finished study: its recipe, its weights with a model card, or upload it to the hub."""
    from experiments.release.export import ExportOptions, export_winner

    options = ExportOptions(recipe, model, push, private, license_, out_shard_size, force)
    with explained():
        export_winner(study, options, models_roots=models_root)
