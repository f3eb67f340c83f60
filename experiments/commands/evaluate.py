"""``mergesearch evaluate``, with lm-eval's flags."""

from typing import Annotated

import typer

from experiments.commands.support.options import (
    INPUT,
    MACHINE,
    OUTPUT,
    PROMPTS,
    ApplyChatTemplate,
    Data,
    Device,
    Engine,
    IncludePath,
    Limit,
    ModelsRoot,
    NumFewshot,
    OutputPath,
)
from experiments.exit_codes import explained


def evaluate_command(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Hub id, folder, model+lora, or recipe file.")
    ],
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks",
            metavar="A,B",
            rich_help_panel=INPUT,
            help="lm-eval tasks or groups; with --suite, only these of its tasks.",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            metavar="NAME",
            rich_help_panel=INPUT,
            help="A leaderboard's tasks, shots and average; 'mergesearch list suites' names them.",
        ),
    ] = None,
    models_root: ModelsRoot = None,
    data: Data = None,
    include_path: IncludePath = None,
    skip_missing: Annotated[
        bool,
        typer.Option(
            "--skip-missing", rich_help_panel=INPUT, help="Leave out tasks for which --data DIR has no files."
        ),
    ] = False,
    limit: Limit = None,
    num_fewshot: NumFewshot = None,
    apply_chat_template: ApplyChatTemplate = False,
    system_instruction: Annotated[
        str | None,
        typer.Option(
            "--system-instruction",
            metavar="TEXT",
            rich_help_panel=PROMPTS,
            help="Begin every prompt with this system message.",
        ),
    ] = None,
    fewshot_as_multiturn: Annotated[
        bool,
        typer.Option(
            "--fewshot-as-multiturn",
            rich_help_panel=PROMPTS,
            help="Give few-shot examples as turns of a conversation; needs --apply-chat-template.",
        ),
    ] = False,
    engine: Engine = "live",
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype", metavar="NAME", rich_help_panel=MACHINE, help="Compute in float32, bfloat16 or float16."
        ),
    ] = "float32",
    device: Device = "cpu",
    output: OutputPath = None,
    log_samples: Annotated[
        bool,
        typer.Option("--log-samples", rich_help_panel=OUTPUT, help="Write every answer too, beside --output."),
    ] = False,
) -> None:
    """Score models or recipes on tasks, as lm-eval does: a table with a column each, the best in bold."""
    from experiments.devices import usable_device
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
        options.check()
        usable_device(device)
        evaluate_models(models, options=options, models_roots=models_root)
