"""The command that scores models, with lm-eval's flags."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import Data, Device, ModelsRoot
from experiments.exit_codes import explained


def evaluate_command(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Hub id, folder, model+lora, or recipe file.")
    ],
    tasks: Annotated[
        str | None, typer.Option("--tasks", metavar="a,b", help="lm-eval tasks or groups; with --suite: only these.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", metavar="NAME", help="A leaderboard's tasks and average; see: list suites.")
    ] = None,
    num_fewshot: Annotated[int | None, typer.Option("--num-fewshot", "--num_fewshot", min=0, help="Shots.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="First so many questions of each task.")] = None,
    data: Data = None,
    include_path: Annotated[
        Path | None, typer.Option("--include-path", "--include_path", metavar="DIR", help="More lm-eval task files.")
    ] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", "--apply_chat_template", help="Wrap prompts in the template.")
    ] = False,
    system_instruction: Annotated[
        str | None, typer.Option("--system-instruction", "--system_instruction", metavar="TEXT", help="System prompt.")
    ] = None,
    fewshot_as_multiturn: Annotated[
        bool, typer.Option("--fewshot-as-multiturn", "--fewshot_as_multiturn", help="Examples as turns of a chat.")
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out tasks that --data DIR has no files for.")
    ] = False,
    engine: Annotated[
        str, typer.Option("--engine", help="live: ours; hf: lm-eval's HFLM, to check it; vllm: optional extra, GPU.")
    ] = "live",
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = "float32",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "--output-path", "--output_path", metavar="PATH", help="lm-eval's JSON: FILE.json or a folder."
        ),
    ] = None,
    log_samples: Annotated[
        bool, typer.Option("--log-samples", "--log_samples", help="Every question's answer too, beside --output.")
    ] = False,
    models_root: ModelsRoot = None,
    device: Device = "cpu",
) -> None:
    """Score models or recipes on tasks; one column each, best in bold."""
    from experiments.evaluate.options import EvaluateOptions
    from experiments.evaluate.run import evaluate_models

    options = EvaluateOptions(
        tasks=tasks,
        suite=suite,
        num_fewshot=num_fewshot,
        limit=limit,
        data=data,
        include_path=include_path,
        apply_chat_template=apply_chat_template,
        system_instruction=system_instruction,
        fewshot_as_multiturn=fewshot_as_multiturn,
        skip_missing=skip_missing,
        engine=engine,
        dtype=dtype,
        output=output,
        log_samples=log_samples,
        device=device,
    )
    with explained():
        evaluate_models(models, options=options, models_roots=models_root)
