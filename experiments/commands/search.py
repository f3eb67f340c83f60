"""``mergesearch search``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.fast_imports import uncollected
from experiments.commands.support.options import (
    BUDGET,
    INPUT,
    MACHINE,
    Data,
    Device,
    Json,
    ModelsRoot,
    Out,
    Plain,
    Quiet,
    Trials,
    Workers,
    progress_of,
)
from experiments.exit_codes import explained


def search_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
    models_root: ModelsRoot = None,
    out: Out = None,
    data: Data = None,
    search_on_test: Annotated[
        bool,
        typer.Option(
            "--search-on-test",
            rich_help_panel=INPUT,
            help="Search on test questions; refused otherwise, since the verdict is then no estimate of anything new.",
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
            help="Begin no trial after this many hours.",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            metavar="N",
            min=1,
            rich_help_panel=BUDGET,
            help="Stop after this many trials without a new best.",
        ),
    ] = None,
    workers: Workers = None,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            rich_help_panel=MACHINE,
            help="Score trials in Ray actors, one per GPU or core; --workers sets a lower number.",
        ),
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="ADDRESS",
            rich_help_panel=MACHINE,
            help="Use this Ray cluster: auto, or HOST:PORT.",
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            rich_help_panel=MACHINE,
            help="Lead a study that a process of another host led, which is gone.",
        ),
    ] = False,
    device: Device = "cpu",
    plain: Plain = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Run a study, or go on with it: baselines, trials, and a verdict on questions that nobody searched on.

    The same command goes on after Ctrl-C, a crash or a reboot. A finished study only shows its verdict.
    """
    with uncollected():
        from experiments.running.run import run

    with explained():
        run(
            study,
            out,
            data=data,
            trials=trials,
            max_hours=max_hours,
            patience=patience,
            workers=workers,
            ray=ray_address or ray,
            take_over=take_over,
            search_on_test=search_on_test,
            device=device,
            models_roots=models_root,
            progress=progress_of(plain=plain, quiet=quiet, json=json_),
        )
