"""``mergesearch duel``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import Data, Device, ModelsRoot, Trials
from experiments.exit_codes import explained


def duel_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study with several families or recipes.")],
    fixed: Annotated[
        bool, typer.Option("--fixed", help="Search nothing: the study's plain families and baselines meet as they are.")
    ] = False,
    models_root: ModelsRoot = None,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the duel. Default: runs/NAME.duel.")
    ] = None,
    trials: Trials = None,
    max_hours: Annotated[
        float | None, typer.Option("--max-hours", min=0.0, help="Per family: ask for no more after this.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Let families meet at equal budgets on the same test questions: differences, intervals, and what could be seen."""
    from experiments.duel.command import run_duel
    from experiments.running.overrides import Overrides

    overrides = Overrides(data=data, trials=trials, max_hours=max_hours)
    with explained():
        run_duel(study, overrides=overrides, fixed=fixed, models_roots=models_root, out=out, device=device)
