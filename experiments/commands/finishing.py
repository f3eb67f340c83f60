"""The commands for a study that has run: report, export, verify, mlflow-sync; and list."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.fast_imports import uncollected
from experiments.commands.options import Data, Device, ModelsRoot
from experiments.exit_codes import RUN_FAILED, explained


def report_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study, finished or not.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Texts of the questions from there, as where a study asked the hub's."
        ),
    ] = None,
) -> None:
    """Write a study's report: one HTML page that needs no network, and its tables as CSV and Markdown."""
    with uncollected():
        from experiments.report.page import write_report

    with explained():
        typer.echo(f"report: {write_report(study, data)}")


def export_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study.")],
    recipe: Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="Write the winner's recipe.")] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Write weights, tokenizer and card.")
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", metavar="USER/NAME", help="Upload to the hub, with the hub's own token.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A repository that is made is private.")] = False,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Licence; default: what the parents' allow.")
    ] = None,
    models_root: ModelsRoot = None,
    out_shard_size: Annotated[str, typer.Option("--out-shard-size", help="Largest shard, with K, M or B.")] = "5B",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Export the winner of a finished study: its recipe, its weights with a model card, a place on the hub."""
    from experiments.release.export import ExportOptions, export_winner

    options = ExportOptions(recipe, model, push, private, license_, out_shard_size, force)
    with explained():
        export_winner(study, options, models_roots=models_root)


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


def mlflow_sync_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")],
) -> None:
    """Rebuild the MLflow mirror of a study from its store."""
    from experiments.running.run import sync_mirror

    with explained():
        sync_mirror(study)


def list_command(
    what: Annotated[str, typer.Argument(metavar="methods|samplers|suites", help="What to list.")],
) -> None:
    """List what can be named in recipes and studies."""
    from experiments.commands.listing import listing

    with explained():
        for line in listing(what):
            typer.echo(line)
