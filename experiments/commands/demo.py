"""``mergesearch demo``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import (
    INPUT,
    Device,
    Json,
    Out,
    Plain,
    Quiet,
    Trials,
    progress_of,
)
from experiments.exit_codes import explained


def demo_command(
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR",
            rich_help_panel=INPUT,
            help="Real benchmarks from DIR, or 'hub', instead of the embedded questions.",
        ),
    ] = None,
    out: Out = None,
    trials: Trials = None,
    base: Annotated[
        Path | None,
        typer.Option(
            "--base",
            metavar="DIR",
            rich_help_panel=INPUT,
            help="A folder with SmolLM2-135M-Instruct, instead of a download.",
        ),
    ] = None,
    device: Device = "cpu",
    plain: Plain = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Show everything on a small example: a 135M base model, two adapters, three families of merges.

    Takes some minutes on a CPU. The base model is fetched once and kept in the user's cache.
    """
    from experiments.demo.run import run_demo

    with explained():
        progress = progress_of(plain=plain, quiet=quiet, json=json_)
        run_demo(data=data, out=out, trials=trials, base=base, device=device, progress=progress)
