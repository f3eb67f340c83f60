"""The command line: which commands there are, in groups, each with examples; each command is a file of its own."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

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
from experiments.commands.schema import schema_command
from experiments.commands.search import search_command
from experiments.commands.space import space_command
from experiments.commands.verify import verify_command
from experiments.commands.worker import worker_command


@dataclass(frozen=True)
class Entry:
    """One command of the command line.

    Attributes:
        name: What is typed after ``mergesearch``.
        command: The function.
        group: Heading under which ``--help`` lists it.
        examples: What is typed after ``mergesearch``, the most usual first.
    """

    name: str
    command: Callable[..., Any]
    group: str
    examples: tuple[str, ...]


SEARCH, MODELS, FINISHED = "Search for a merge", "Merge and score models", "Use a finished study"

COMMANDS = (
    Entry("demo", demo_command, SEARCH, ("demo", "demo --trials 10 --out runs/first")),
    Entry("space", space_command, SEARCH, ("space study.yaml",)),
    Entry("schema", schema_command, SEARCH, ("schema --out study.schema.json",)),
    Entry(
        "search",
        search_command,
        SEARCH,
        (
            "search study.yaml --models-root models",
            "search study.yaml --trials 100 --max-hours 8 --device cuda",
            "search study.yaml --workers 4 --json > events.jsonl",
            "search study.yaml --ray-address auto",
        ),
    ),
    Entry("duel", duel_command, SEARCH, ("duel study.yaml --trials 30", "duel study.yaml --fixed")),
    Entry(
        "merge",
        merge_command,
        MODELS,
        ("merge recipe.yaml merged --models-root models", "merge recipe.yaml merged --device cuda --compat mergekit"),
    ),
    Entry(
        "evaluate",
        evaluate_command,
        MODELS,
        (
            "evaluate base base+math best.yaml --suite core --data data",
            "evaluate merged --tasks arc_challenge,gsm8k --limit 100 --output scores.json",
        ),
    ),
    Entry(
        "reproduce",
        reproduce_command,
        MODELS,
        ("reproduce CARD.md --dry-run", "reproduce CARD.md --data data --map org/parent=models/parent"),
    ),
    Entry("report", report_command, FINISHED, ("report runs/demo",)),
    Entry(
        "export",
        export_command,
        FINISHED,
        ("export runs/demo --model merged --recipe best.yaml", "export runs/demo --push me/my-merge --private"),
    ),
    Entry("verify", verify_command, FINISHED, ("verify runs/demo", "verify runs/demo --model merged")),
    Entry("mlflow-sync", mlflow_sync_command, FINISHED, ("mlflow-sync runs/demo",)),
    Entry("list", list_command, MODELS, ("list methods", "list suites")),
)


def _dashed(token: str) -> str:
    """Return an option as it is declared: lm-eval writes ``--num_fewshot``, mergekit ``--random-seed``."""
    return token.replace("_", "-")


def make_app() -> typer.Typer:
    """Return the command line with every command of `COMMANDS`."""
    made = typer.Typer(
        name="mergesearch",
        help="Finds the best merge of language models, and shows on fresh questions whether it is better.",
        epilog="Begin with: mergesearch demo",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": _dashed},
    )
    for entry in COMMANDS:
        examples = [f"mergesearch {example}" for example in entry.examples]
        epilog = "\n\n".join([f"Example{'s' if len(examples) > 1 else ''}:", *examples])
        made.command(entry.name, epilog=epilog, rich_help_panel=entry.group)(entry.command)
    anything = {"allow_extra_args": True, "ignore_unknown_options": True}
    made.command("worker", hidden=True, context_settings=anything)(worker_command)
    return made


app = make_app()


def main() -> None:
    """Run the command line; ``mergesearch.main`` has seen that the rooms are ours."""
    try:
        app()
    except SystemExit as end:
        if sys.argv[1:2] == ["merge"] and type(end.code) is int:
            _leave(end.code)
        raise


def _leave(code: int) -> None:
    """End the process without clearing up, which takes a tenth of a small merge; every file is complete by then."""
    with suppress(OSError):  # a reader of the output that is gone: the interpreter tells of it as ever
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
