"""Options that several commands take, and the groups in which ``--help`` shows them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.errors import InputError

INPUT = "What is read"
BUDGET = "How long"
MACHINE = "Where it runs"
OUTPUT = "What is written and shown"
PROMPTS = "How questions are asked"
RECIPE = "How tensors are merged"
IDLE: dict[str, Any] = {
    "rich_help_panel": "mergekit's flags that need no action here; each says why",
    "show_default": False,
}

ModelsRoot = Annotated[
    list[Path] | None,
    typer.Option(
        "--models-root",
        metavar="DIR",
        rich_help_panel=INPUT,
        help="Look up model names in this folder; repeat it for several. MERGESEARCH_MODELS may list more.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        rich_help_panel=INPUT,
        help="Take questions from DIR/TASK/SPLIT.jsonl, without a network; or 'hub'.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", rich_help_panel=OUTPUT, help="Folder of the study. Default: runs/NAME."),
]
Trials = Annotated[
    int | None,
    typer.Option(
        "--trials", metavar="N", min=1, rich_help_panel=BUDGET, help="Number of candidates, instead of the study's."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, metavar="N", rich_help_panel=MACHINE, help="Processes of this machine, each with a model."
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", metavar="NAME", rich_help_panel=MACHINE, help="Where models run: cpu, cuda, cuda:1, mps."),
]
IncludePath = Annotated[
    Path | None,
    typer.Option(
        "--include-path",
        metavar="DIR",
        rich_help_panel=INPUT,
        help="Find more lm-eval task files in this folder.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="N", min=1, rich_help_panel=INPUT, help="Ask only the first N questions of each task."
    ),
]
NumFewshot = Annotated[
    int | None,
    typer.Option(
        "--num-fewshot",
        metavar="N",
        min=0,
        rich_help_panel=PROMPTS,
        help="Examples before each question, instead of the task's own number.",
    ),
]
ApplyChatTemplate = Annotated[
    bool,
    typer.Option(
        "--apply-chat-template",
        rich_help_panel=PROMPTS,
        help="Wrap prompts in the model's chat template.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        rich_help_panel=MACHINE,
        help="What answers: live, ours; hf, lm-eval's own, to check it; vllm, an optional extra for GPUs.",
    ),
]
OutputPath = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "--output-path",
        metavar="PATH",
        rich_help_panel=OUTPUT,
        help="Write lm-eval's results document: FILE.json, or a folder.",
    ),
]
OutShardSize = Annotated[
    str,
    typer.Option(
        "--out-shard-size", metavar="SIZE", rich_help_panel=OUTPUT, help="Largest shard in bytes, with K, M or B."
    ),
]
Plain = Annotated[
    bool,
    typer.Option("--plain", rich_help_panel=OUTPUT, help="One line per event, as when the output is no terminal."),
]
Quiet = Annotated[bool, typer.Option("--quiet", rich_help_panel=OUTPUT, help="The verdict alone.")]
Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=OUTPUT, help="One JSON object per event, and nothing else.")
]


def progress_of(*, plain: bool, quiet: bool, json: bool) -> str:
    """Return the name of the renderer that flags ask for.

    Raises:
        InputError: Several were given.
    """
    chosen = [name for name, flag in (("plain", plain), ("quiet", quiet), ("json", json)) if flag]
    if len(chosen) > 1:
        raise InputError(f"--{chosen[0]}: must stand alone, got --{chosen[1]} too")
    return chosen[0] if chosen else "auto"
