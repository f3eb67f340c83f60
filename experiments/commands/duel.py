"""``mergesearch duel``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import BUDGET, OUTPUT, Data, Device, ModelsRoot, Trials
from experiments.exit_codes import explained


def duel_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study with several families or recipes.")],
    models_root: ModelsRoot = None,
    data: Data = None,
    fixed: Annotated[
        bool,
        typer.Option(
            "--fixed", rich_help_panel=BUDGET, help="Search nothing: compare plain families and baselines as they are."
        ),
    ] = False,
    trials: Trials = None,
    max_hours: Annotated[
        float | None,
        typer.Option(
            "--max-hours",
            metavar="HOURS",
            min=0.0,
            rich_help_panel=BUDGET,
            help="For each family: begin no trial after so many hours.",
        ),
    ] = None,
    device: Device = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", rich_help_panel=OUTPUT, help="Folder of the duel. Default: runs/NAME.duel."
        ),
    ] = None,
) -> None:
    """Compare families of merges, each searched at the same budget, on the same test questions.

    Shows differences with intervals, and what so many questions could have shown.
    """
    from experiments.devices import usable_device
    from experiments.duel.command import run_duel
    from experiments.running.overrides import Overrides

    overrides = Overrides(data=data, trials=trials, max_hours=max_hours)
    with explained():
        usable_device(device)
        run_duel(study, overrides=overrides, fixed=fixed, models_roots=models_root, out=out, device=device)
