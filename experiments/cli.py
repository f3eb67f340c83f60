"""The command line: which commands there are, each with an example; what they take is in ``experiments.commands``."""

import os
import sys
from contextlib import suppress

import typer

from experiments.commands.demo import demo_command
from experiments.commands.duel import duel_command
from experiments.commands.evaluate import evaluate_command
from experiments.commands.export import export_command
from experiments.commands.list import list_command
from experiments.commands.merge import merge_command
from experiments.commands.mlflow_sync import mlflow_sync_command
from experiments.commands.report import report_command
from experiments.commands.reproduce import reproduce_command
from experiments.commands.search import search_command
from experiments.commands.space import space_command
from experiments.commands.support.package_guard import foreign_rooms
from experiments.commands.verify import verify_command
from experiments.commands.worker import worker_command
from experiments.exit_codes import BAD_INPUT

app = typer.Typer(
    name="mergesearch",
    help="Finds the best merge of language models automatically, and proves that it is better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for name, command, example in (
    ("search", search_command, "search study.yaml --models-root models --trials 50"),
    ("worker", worker_command, "worker study.yaml --models-root models"),
    ("space", space_command, "space study.yaml"),
    ("merge", merge_command, "merge recipe.yaml merged-model --models-root models"),
    ("evaluate", evaluate_command, "evaluate base base+math best.yaml --suite core --data data"),
    ("export", export_command, "export runs/demo --model merged --recipe best.yaml"),
    ("verify", verify_command, "verify runs/demo --data ../shared/data"),
    ("reproduce", reproduce_command, "reproduce CARD.md --data data --map org/parent=models/parent"),
    ("duel", duel_command, "duel study.yaml --models-root models --trials 30"),
    ("report", report_command, "report runs/demo"),
    ("demo", demo_command, "demo --data ../shared/data"),
    ("mlflow-sync", mlflow_sync_command, "mlflow-sync runs/demo"),
    ("list", list_command, "list suites"),
):
    app.command(name, epilog=f"Example: mergesearch {example}")(command)


def main() -> None:
    """Run the command line."""
    shadowed = foreign_rooms()
    if shadowed is not None:
        typer.echo(f"error: {shadowed}", err=True)
        raise SystemExit(BAD_INPUT)
    try:
        app()
    except SystemExit as end:
        if sys.argv[1:2] == ["merge"] and type(end.code) is int:
            _leave(end.code)
        raise


def _leave(code: int) -> None:
    """End the process without clearing up, which takes a tenth of a small merge; all that it wrote has its name."""
    with suppress(OSError):  # a reader that is gone is told of as ever
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
