"""``mergesearch mlflow-sync``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.exit_codes import explained


def mlflow_sync_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")],
) -> None:
    """Rebuild the MLflow mirror of a study from its store."""
    from experiments.running.run import sync_mirror

    with explained():
        sync_mirror(study)
