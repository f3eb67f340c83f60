"""``mergesearch verify``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import Data, Device, ModelsRoot
from experiments.exit_codes import RUN_FAILED, explained


def verify_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study.")],
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Compare these exported weights as well.")
    ] = None,
    data: Data = None,
    models_root: ModelsRoot = None,
    device: Device = "cpu",
) -> None:
    """Rebuild the winner of a study, score it again, and say what differs. Exit code 0: nothing; 1: something."""
    from experiments.release.verify import verify_study

    with explained():
        same = verify_study(study, model=model, data=data, models_roots=models_root, device=device)
    if not same:
        raise typer.Exit(RUN_FAILED)
