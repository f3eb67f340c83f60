"""``mergesearch verify``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import INPUT, Data, Device, ModelsRoot
from experiments.exit_codes import RUN_FAILED, explained


def verify_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study, as runs/NAME.")],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="DIR",
            rich_help_panel=INPUT,
            help="Compare these exported weights with the rebuilt ones.",
        ),
    ] = None,
    models_root: ModelsRoot = None,
    data: Data = None,
    device: Device = "cpu",
) -> None:
    """Build the winner of a finished study again, score it again, and say what differs.

    Exit code 0: nothing differs; 1: something does.
    """
    from experiments.devices import usable_device
    from experiments.release.verify import verify_study

    with explained():
        usable_device(device)
        same = verify_study(study, model=model, data=data, models_roots=models_root, device=device)
    if not same:
        raise typer.Exit(RUN_FAILED)
