"""``mergesearch worker``, which is gone: what replaced it."""

import typer

from experiments.exit_codes import BAD_INPUT


def worker_command(context: typer.Context) -> None:
    """Say what replaced this command."""
    del context
    typer.echo(
        "error: mergesearch worker: is gone; one process leads a study, so start 'mergesearch search STUDY.yaml "
        "--workers N' for N scorers on this host, or 'mergesearch search STUDY.yaml --ray' for those of a Ray cluster",
        err=True,
    )
    raise typer.Exit(BAD_INPUT)
