"""``mergesearch demo``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import Device, Out, Trials
from experiments.exit_codes import explained


def demo_command(
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Real benchmarks from DIR, or 'hub', instead of mini.")
    ] = None,
    out: Out = None,
    trials: Trials = None,
    base: Annotated[
        Path | None,
        typer.Option("--base", metavar="DIR", help="A folder with SmolLM2-135M-Instruct, instead of a download."),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Run the embedded default end to end: a 135M base, two adapters, three families of merges."""
    from experiments.demo.run import run_demo

    with explained():
        run_demo(data=data, out=out, trials=trials, base=base, device=device)
