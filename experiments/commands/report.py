"""``mergesearch report``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.fast_imports import uncollected
from experiments.commands.support.options import INPUT
from experiments.exit_codes import explained


def report_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study, finished or not, as runs/NAME.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            rich_help_panel=INPUT,
            help="Take the questions' texts from DIR/TASK/SPLIT.jsonl, where the study asked those of the hub.",
        ),
    ] = None,
) -> None:
    """Write a study's report: one HTML page that needs no network, and its tables as CSV and Markdown."""
    with uncollected():
        from experiments.report.page import write_report

    with explained():
        typer.echo(f"report: {write_report(study, data)}")
