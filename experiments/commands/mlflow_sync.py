"""``mergesearch mlflow-sync``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.exit_codes import explained


def mlflow_sync_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study, as runs/NAME.")],
) -> None:
    """Write a study's MLflow runs again, from the study's own store.

    The place is the study's tracking.mlflow, else MLFLOW_TRACKING_URI, else mlflow.db in the current folder.
    """
    from experiments.running.mirror import sync_mirror

    with explained():
        sync_mirror(study, typer.echo)
