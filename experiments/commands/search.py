"""``mergesearch search``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.fast_imports import uncollected
from experiments.commands.support.options import Data, Device, ModelsRoot, Out, Trials, Workers
from experiments.exit_codes import explained


def search_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
    models_root: ModelsRoot = None,
    data: Data = None,
    out: Out = None,
    trials: Trials = None,
    max_hours: Annotated[float | None, typer.Option("--max-hours", min=0.0, help="Ask for no more after this.")] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", min=1, help="Ask for no more after so many without a new best.")
    ] = None,
    workers: Workers = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Score trials in Ray actors: one per GPU, or per core; --workers says fewer.")
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", metavar="ADDRESS", help="A running Ray cluster: auto, HOST:PORT."),
    ] = None,
    search_on_test: Annotated[
        bool, typer.Option("--search-on-test", help="Search on test questions, which is refused otherwise.")
    ] = False,
    device: Device = "cpu",
) -> None:
    """Run or resume a study: baselines, live progress, verdict, and where everything is."""
    with uncollected():
        from experiments.running.run import Overrides, run_study

    overrides = Overrides(data, trials, max_hours, search_on_test, patience, workers)
    cluster = ray_address or ("local" if ray else None)
    with explained():
        run_study(study, overrides=overrides, models_roots=models_root, out=out, device=device, ray=cluster)
