"""``mergesearch reproduce``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import (
    INPUT,
    OUTPUT,
    RECIPE,
    ApplyChatTemplate,
    Data,
    Device,
    Engine,
    IncludePath,
    Limit,
    ModelsRoot,
    NumFewshot,
    OutputPath,
)
from experiments.exit_codes import explained


def reproduce_command(
    card: Annotated[str, typer.Argument(metavar="CARD.md", help="A model card: a file, or a hub id.")],
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="ORG/NAME=DIR",
            rich_help_panel=INPUT,
            help="Take this model from there; repeat it for several.",
        ),
    ] = None,
    models_root: ModelsRoot = None,
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", metavar="A,B", rich_help_panel=INPUT, help="Measure only these of the card's tasks."),
    ] = None,
    data: Data = None,
    include_path: IncludePath = None,
    limit: Limit = None,
    recipe: Annotated[
        int | None,
        typer.Option(
            "--recipe", metavar="N", min=1, rich_help_panel=RECIPE, help="Which recipe, where the card has several."
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column", metavar="NAME", rich_help_panel=INPUT, help="The model's name in the card's tables of scores."
        ),
    ] = None,
    random_seed: Annotated[
        int, typer.Option("--random-seed", metavar="N", rich_help_panel=RECIPE, help="Seed of random masks.")
    ] = 0,
    compat: Annotated[
        str | None,
        typer.Option(
            "--compat", metavar="mergekit", rich_help_panel=RECIPE, help="Give mergekit's bits, quirks included."
        ),
    ] = None,
    num_fewshot: NumFewshot = None,
    apply_chat_template: ApplyChatTemplate = False,
    engine: Engine = "live",
    device: Device = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=OUTPUT, help="Only show the recipe and the published scores.")
    ] = False,
    parents: Annotated[
        bool, typer.Option("--parents", rich_help_panel=OUTPUT, help="Measure the parents too.")
    ] = False,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", rich_help_panel=OUTPUT, help="Keep the rebuilt weights.")
    ] = None,
    output: OutputPath = None,
) -> None:
    """Rebuild the model of a Hugging Face model card and measure the scores that it publishes."""
    from experiments.devices import usable_device
    from experiments.reproduce.command import ReproduceOptions, reproduce_card
    from experiments.reproduce.measure import Settings

    settings = Settings(
        data=None if data in (None, "hub") else Path(str(data)),
        limit=limit,
        num_fewshot=num_fewshot,
        include_path=include_path,
        apply_chat_template=apply_chat_template,
        engine=engine,
    )
    options = ReproduceOptions(
        settings=settings,
        mapped=map_ or (),
        tasks=tasks,
        recipe=recipe,
        column=column,
        parents=parents,
        model=model,
        output=output,
        dry_run=dry_run,
        seed=random_seed,
        compat=compat,
        device=device,
    )
    with explained():
        usable_device(device)
        reproduce_card(card, options=options, models_roots=models_root)
