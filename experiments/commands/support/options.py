"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

ModelsRoot = Annotated[
    list[Path] | None,
    typer.Option(
        "--models-root",
        metavar="DIR",
        help="Folder in which model names are looked up; can be given again. Also MERGESEARCH_MODELS.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DIR", help="Questions from DIR/TASK/SPLIT.jsonl, without any network; or 'hub'."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the study. Default: runs/NAME.")]
Trials = Annotated[int | None, typer.Option("--trials", min=1, help="Number of candidates, instead of the study's.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="Processes on this machine, each with a model.")
]
IDLE: dict[str, Any] = {"rich_help_panel": "mergekit's flags that need no action here; each says why"}
Device = Annotated[str, typer.Option("--device", help="Where the live model runs: cpu, cuda, cuda:1, mps.")]
