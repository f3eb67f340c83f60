"""The commands that search: search, worker, space, demo."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.fast_imports import uncollected
from experiments.commands.options import Data, Device, ModelsRoot, Out, Trials, Workers
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


def space_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
) -> None:
    """Show what a study searches: every hole, its range, the trials it deserves; opens no model."""
    from experiments.running.space_table import print_space

    with explained():
        print_space(study)


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
