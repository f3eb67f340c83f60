"""``mergesearch schema``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import OUTPUT
from experiments.exit_codes import explained


def schema_command(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", rich_help_panel=OUTPUT, help="Write it here.")
    ] = None,
) -> None:
    """Print the JSON schema of a study file, by which editors complete and check it.

    An editor uses it for a study whose first line is '# yaml-language-server: $schema=FILE'.
    """
    from experiments.atomic_files import write_text_atomically
    from search.study.json_schema import schema_text

    with explained():
        if out is None:
            typer.echo(schema_text(), nl=False)
        else:
            write_text_atomically(out, schema_text())
