"""``mergesearch space``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.exit_codes import explained


def space_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
) -> None:
    """Show what a study searches: every number that is open, its range, the trials it needs. Opens no model."""
    from experiments.running.space_table import print_space

    with explained():
        print_space(study)
