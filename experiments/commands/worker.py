"""``mergesearch worker``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.fast_imports import uncollected
from experiments.commands.support.options import Data, Device, ModelsRoot, Workers
from experiments.exit_codes import explained


def worker_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Its file, or its folder as in runs/NAME.")],
    models_root: ModelsRoot = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for prompts made here.")] = None,
    workers: Workers = None,
    device: Device = "cpu",
) -> None:
    """Join a running study from this or another machine, until it asks for no more candidates."""
    with uncollected():
        from experiments.join import join_study

    with explained():
        join_study(study, models_roots=models_root, data=data, out=out, workers=workers or 1, device=device)
