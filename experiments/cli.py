"""The command line: one short function per command; what it does lives in the module it calls.

Heavy imports stand inside the functions, so that ``mergesearch --help`` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from experiments.faults import BAD_INPUT, explained
from experiments.guard import foreign_rooms

app = typer.Typer(
    name="mergesearch",
    help="Finds the best merge of language models automatically, and proves that it is better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
Device = Annotated[str, typer.Option("--device", help="Where the live model runs: cpu, cuda, cuda:1, mps.")]


@app.command("search", epilog="Example: mergesearch search study.yaml --models-root models --trials 50")
def search_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
    models_root: ModelsRoot = None,
    data: Data = None,
    out: Out = None,
    trials: Trials = None,
    max_hours: Annotated[float | None, typer.Option("--max-hours", min=0.0, help="Ask for no more after this.")] = None,
    device: Device = "cpu",
) -> None:
    """Run or resume a study: baselines, live progress, verdict, and where everything is."""
    from experiments.run import Overrides, run_study

    overrides = Overrides(data=data, trials=trials, max_hours=max_hours)
    with explained():
        run_study(study, overrides=overrides, models_roots=models_root, out=out, device=device)


@app.command("merge", epilog="Example: mergesearch merge recipe.yaml merged-model --models-root models")
def merge_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="A mergekit recipe, also of several stages.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write the merged model to.")],
    models_root: ModelsRoot = None,
    random_seed: Annotated[int, typer.Option("--random-seed", help="Seed of random masks.")] = 0,
    compat: Annotated[
        str | None, typer.Option("--compat", metavar="mergekit", help="Give mergekit's bits, quirks included.")
    ] = None,
    out_shard_size: Annotated[
        str, typer.Option("--out-shard-size", help="Largest shard in bytes, with K, M or B.")
    ] = "5B",
    copy_tokenizer: Annotated[bool, typer.Option("--copy-tokenizer/--no-copy-tokenizer", help="Copy it along.")] = True,
    allow_crimes: Annotated[bool, typer.Option("--allow-crimes", help="Merge different architectures.")] = False,
    allow_nan: Annotated[bool, typer.Option("--allow-nan", help="Accept NaN in a parent.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that is not empty.")] = False,
    cuda: Annotated[bool, typer.Option("--cuda", help="Compute on the GPU.")] = False,
) -> None:
    """Build the model folder of a recipe, one tensor at a time."""
    from experiments.build import BuildOptions, build_model

    options = BuildOptions(
        seed=random_seed,
        compat=compat,
        out_shard_size=out_shard_size,
        copy_tokenizer=copy_tokenizer,
        allow_crimes=allow_crimes,
        allow_nan=allow_nan,
        force=force,
        device="cuda" if cuda else "cpu",
    )
    with explained():
        build_model(recipe, out, models_roots=models_root, options=options)


@app.command("evaluate", epilog="Example: mergesearch evaluate base base+math best.yaml --tasks arc_easy --data data")
def evaluate_command(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Hub id, folder, model+lora, or recipe file.")
    ],
    tasks: Annotated[str | None, typer.Option("--tasks", metavar="a,b", help="lm-eval tasks or groups.")] = None,
    suite: Annotated[str | None, typer.Option("--suite", help="A ready list of tasks instead.")] = None,
    num_fewshot: Annotated[int | None, typer.Option("--num-fewshot", "--num_fewshot", min=0, help="Shots.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="First so many questions of each task.")] = None,
    data: Data = None,
    include_path: Annotated[Path | None, typer.Option("--include-path", "--include_path", help="More tasks.")] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", "--apply_chat_template", help="Wrap prompts in the template.")
    ] = False,
    engine: Annotated[str, typer.Option("--engine", help="live: ours; hf: lm-eval's HFLM, to check it.")] = "live",
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE.json", help="Write the scores.")] = None,
    models_root: ModelsRoot = None,
    device: Device = "cpu",
) -> None:
    """Score models or recipes on tasks; one column each, best in bold."""
    from experiments.evaluate import EvaluateOptions, evaluate_models

    options = EvaluateOptions(
        tasks=tasks,
        suite=suite,
        num_fewshot=num_fewshot,
        limit=limit,
        data=data,
        include_path=include_path,
        apply_chat_template=apply_chat_template,
        engine=engine,
        output=output,
        device=device,
    )
    with explained():
        evaluate_models(models, options=options, models_roots=models_root)


@app.command("export", epilog="Example: mergesearch export runs/demo --model merged --recipe best.yaml")
def export_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study.")],
    recipe: Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="Write the winner's recipe.")] = None,
    model: Annotated[Path | None, typer.Option("--model", metavar="DIR", help="Write the winner's weights.")] = None,
    models_root: ModelsRoot = None,
    out_shard_size: Annotated[str, typer.Option("--out-shard-size", help="Largest shard, with K, M or B.")] = "5B",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Export the winner of a finished study: its recipe, its weights with a model card."""
    from experiments.export import export_winner

    with explained():
        export_winner(study, recipe, model, models_roots=models_root, out_shard_size=out_shard_size, force=force)


@app.command("demo", epilog="Example: mergesearch demo --data ../shared/data")
def demo_command(
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Real benchmarks from DIR, or 'hub', instead of mini.")
    ] = None,
    out: Out = None,
    trials: Trials = None,
    base: Annotated[
        Path | None,
        typer.Option("--base", metavar="DIR", help="A folder with SmolLM2-135M-Instruct, instead of a download."),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Run the embedded default end to end: a 135M base, two adapters, three families of merges."""
    from experiments.demo.run import run_demo

    with explained():
        run_demo(data=data, out=out, trials=trials, base=base, device=device)


@app.command("mlflow-sync", epilog="Example: mergesearch mlflow-sync runs/demo")
def mlflow_sync_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")],
) -> None:
    """Rebuild the MLflow mirror of a study from its store."""
    from experiments.run import sync_mirror

    with explained():
        sync_mirror(study)


@app.command("list", epilog="Example: mergesearch list suites")
def list_command(
    what: Annotated[str, typer.Argument(metavar="methods|samplers|suites", help="What to list.")],
) -> None:
    """List what can be named in recipes and studies."""
    from experiments.listing import listing

    with explained():
        for line in listing(what):
            typer.echo(line)


def main() -> None:
    """Run the command line."""
    shadowed = foreign_rooms()
    if shadowed is not None:
        typer.echo(f"error: {shadowed}", err=True)
        raise SystemExit(BAD_INPUT)
    app()
