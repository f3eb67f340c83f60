"""The command line: one short function per command; what it does lives in the module it calls.

Heavy imports stand inside the functions, so that ``mergesearch --help`` answers at once.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.faults import BAD_INPUT, RUN_FAILED, explained
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
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="Processes on this machine, each with a model.")
]
IDLE: dict[str, Any] = {"rich_help_panel": "mergekit's flags that need no action here; each says why"}
Device = Annotated[str, typer.Option("--device", help="Where the live model runs: cpu, cuda, cuda:1, mps.")]


@app.command("search", epilog="Example: mergesearch search study.yaml --models-root models --trials 50")
def search_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
    models_root: ModelsRoot = None,
    data: Data = None,
    out: Out = None,
    trials: Trials = None,
    max_hours: Annotated[float | None, typer.Option("--max-hours", min=0.0, help="Ask for no more after this.")] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", min=1, help="Ask for no more after so many without a new best.")
    ] = None,
    workers: Workers = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Score trials in Ray actors: one per GPU, or per core; --workers says fewer.")
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", metavar="ADDRESS", help="A running Ray cluster: auto, HOST:PORT."),
    ] = None,
    search_on_test: Annotated[
        bool, typer.Option("--search-on-test", help="Search on test questions, which is refused otherwise.")
    ] = False,
    device: Device = "cpu",
) -> None:
    """Run or resume a study: baselines, live progress, verdict, and where everything is."""
    from experiments.run import Overrides, run_study

    overrides = Overrides(data, trials, max_hours, search_on_test, patience, workers)
    cluster = ray_address or ("local" if ray else None)
    with explained():
        run_study(study, overrides=overrides, models_roots=models_root, out=out, device=device, ray=cluster)


@app.command("worker", epilog="Example: mergesearch worker study.yaml --models-root models")
def worker_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Its file, or its folder as in runs/NAME.")],
    models_root: ModelsRoot = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for prompts made here.")] = None,
    workers: Workers = None,
    device: Device = "cpu",
) -> None:
    """Join a running study from this or another machine, until it asks for no more candidates."""
    from experiments.join import join_study

    with explained():
        join_study(study, models_roots=models_root, data=data, out=out, workers=workers or 1, device=device)


@app.command("space", epilog="Example: mergesearch space study.yaml")
def space_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
) -> None:
    """Show what a study searches: every hole, its range, the trials it deserves; opens no model."""
    from experiments.space_table import print_space

    with explained():
        print_space(study)


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
    write_model_card: Annotated[
        bool, typer.Option("--write-model-card/--no-write-model-card", help="README.md and mergekit_config.yml.")
    ] = True,
    allow_crimes: Annotated[
        bool, typer.Option("--allow-crimes/--no-allow-crimes", help="Merge different architectures.")
    ] = False,
    allow_nan: Annotated[bool, typer.Option("--allow-nan", help="Accept NaN in a parent.")] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read .bin checkpoints too (tensors only, no code is run).")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that is not empty.")] = False,
    cuda: Annotated[bool, typer.Option("--cuda/--no-cuda", help="Compute on the GPU: --device cuda.")] = False,
    device: Annotated[str, typer.Option("--device", help="Where to compute: cpu, cuda, cuda:1, mps.")] = "cpu",
    gpu_rich: Annotated[bool, typer.Option("--gpu-rich", help="The same as --cuda.")] = False,
    transformers_cache: Annotated[
        Path | None, typer.Option("--transformers-cache", metavar="DIR", help="The hub's cache, instead of its own.")
    ] = None,
    safe_serialization: Annotated[bool, typer.Option("--safe-serialization/--no-safe-serialization", **IDLE)] = True,
    lazy_unpickle: Annotated[bool, typer.Option("--lazy-unpickle/--no-lazy-unpickle", **IDLE)] = False,
    low_cpu_memory: Annotated[bool, typer.Option("--low-cpu-memory/--no-low-cpu-memory", **IDLE)] = False,
    read_to_gpu: Annotated[bool, typer.Option("--read-to-gpu/--no-read-to-gpu", **IDLE)] = False,
    multi_gpu: Annotated[bool, typer.Option("--multi-gpu/--no-multi-gpu", **IDLE)] = False,
    clone_tensors: Annotated[bool, typer.Option("--clone-tensors/--no-clone-tensors", **IDLE)] = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code/--no-trust-remote-code", **IDLE)] = False,
    lora_merge_cache: Annotated[str | None, typer.Option("--lora-merge-cache", **IDLE)] = None,
    lora_merge_dtype: Annotated[str | None, typer.Option("--lora-merge-dtype", **IDLE)] = None,
    async_write: Annotated[bool, typer.Option("--async-write/--no-async-write", **IDLE)] = False,
    write_threads: Annotated[int | None, typer.Option("--write-threads", **IDLE)] = None,
    num_threads: Annotated[int | None, typer.Option("-j", "--num-threads", **IDLE)] = None,
    quiet: Annotated[bool, typer.Option("--quiet/--no-quiet", help="Print nothing but errors.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, **IDLE)] = 0,
) -> None:
    """Build the model folder of a recipe, one tensor at a time."""
    from experiments.build import BuildOptions, build_model
    from experiments.mergekit_flags import idle_flags

    options = BuildOptions(
        seed=random_seed,
        compat=compat,
        out_shard_size=out_shard_size,
        copy_tokenizer=copy_tokenizer,
        write_model_card=write_model_card,
        allow_crimes=allow_crimes,
        allow_nan=allow_nan,
        allow_pickle=allow_pickle,
        force=force,
        device="cuda" if cuda or gpu_rich else device,
        hub_cache=transformers_cache,
        quiet=quiet,
    )
    with explained():
        idle_flags(locals(), quiet=quiet)
        build_model(recipe, out, models_roots=models_root, options=options)


@app.command("evaluate", epilog="Example: mergesearch evaluate base base+math best.yaml --suite core --data data")
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
    from experiments.evaluate import EvaluateOptions, evaluate_models

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


@app.command("export", epilog="Example: mergesearch export runs/demo --model merged --recipe best.yaml")
def export_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study.")],
    recipe: Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="Write the winner's recipe.")] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Write weights, tokenizer and card.")
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", metavar="USER/NAME", help="Upload to the hub, with the hub's own token.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A repository that is made is private.")] = False,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Licence; default: what the parents' allow.")
    ] = None,
    models_root: ModelsRoot = None,
    out_shard_size: Annotated[str, typer.Option("--out-shard-size", help="Largest shard, with K, M or B.")] = "5B",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Export the winner of a finished study: its recipe, its weights with a model card, a place on the hub."""
    from experiments.export import ExportOptions, export_winner

    options = ExportOptions(recipe, model, push, private, license_, out_shard_size, force)
    with explained():
        export_winner(study, options, models_roots=models_root)


@app.command("verify", epilog="Example: mergesearch verify runs/demo --data ../shared/data")
def verify_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study.")],
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Compare these exported weights as well.")
    ] = None,
    data: Data = None,
    models_root: ModelsRoot = None,
    device: Device = "cpu",
) -> None:
    """Rebuild the winner of a study, score it again, and say what differs. Exit code 0: nothing; 1: something."""
    from experiments.verify import verify_study

    with explained():
        same = verify_study(study, model=model, data=data, models_roots=models_root, device=device)
    if not same:
        raise typer.Exit(RUN_FAILED)


@app.command("reproduce", epilog="Example: mergesearch reproduce CARD.md --data data --map org/parent=models/parent")
def reproduce_command(
    card: Annotated[str, typer.Argument(metavar="CARD.md", help="A model card: a file, or a hub id.")],
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="ORG/NAME=DIR", help="Take this model from there; can be given again."),
    ] = None,
    tasks: Annotated[str | None, typer.Option("--tasks", metavar="a,b", help="Only these of the card's tasks.")] = None,
    num_fewshot: Annotated[
        int | None, typer.Option("--num-fewshot", "--num_fewshot", min=0, help="Shots, instead of the card's.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="First so many questions of each task.")] = None,
    data: Data = None,
    include_path: Annotated[Path | None, typer.Option("--include-path", "--include_path", help="More tasks.")] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", "--apply_chat_template", help="Wrap prompts in the template.")
    ] = False,
    engine: Annotated[str, typer.Option("--engine", help="live: ours; hf: lm-eval's HFLM, to check it.")] = "live",
    output: Annotated[
        Path | None, typer.Option("--output", "--output-path", "--output_path", metavar="FILE.json", help="Scores.")
    ] = None,
    recipe: Annotated[
        int | None, typer.Option("--recipe", min=1, help="Which recipe, if the card has several.")
    ] = None,
    column: Annotated[str | None, typer.Option("--column", metavar="NAME", help="The model's name in tables.")] = None,
    parents: Annotated[bool, typer.Option("--parents", help="Measure the parents too.")] = False,
    model: Annotated[Path | None, typer.Option("--model", metavar="DIR", help="Keep the rebuilt weights.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell recipe and published scores.")] = False,
    random_seed: Annotated[int, typer.Option("--random-seed", help="Seed of random masks.")] = 0,
    compat: Annotated[str | None, typer.Option("--compat", metavar="mergekit", help="Give mergekit's bits.")] = None,
    models_root: ModelsRoot = None,
    device: Device = "cpu",
) -> None:
    """Rebuild the model of a Hugging Face model card and measure the scores that it publishes."""
    from experiments.reproduce.command import ReproduceOptions, reproduce_card
    from experiments.reproduce.measure import Settings

    settings = Settings(
        data=None if data in (None, "hub") else Path(str(data)),
        limit=limit,
        num_fewshot=num_fewshot,
        include_path=include_path,
        apply_chat_template=apply_chat_template,
        engine=engine,
    )
    options = ReproduceOptions(
        settings=settings,
        mapped=map_ or (),
        tasks=tasks,
        recipe=recipe,
        column=column,
        parents=parents,
        model=model,
        output=output,
        dry_run=dry_run,
        seed=random_seed,
        compat=compat,
        device=device,
    )
    with explained():
        reproduce_card(card, options=options, models_roots=models_root)


@app.command("duel", epilog="Example: mergesearch duel study.yaml --models-root models --trials 30")
def duel_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study with several families or recipes.")],
    fixed: Annotated[
        bool, typer.Option("--fixed", help="Search nothing: the study's plain families and baselines meet as they are.")
    ] = False,
    models_root: ModelsRoot = None,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the duel. Default: runs/NAME.duel.")
    ] = None,
    trials: Trials = None,
    max_hours: Annotated[
        float | None, typer.Option("--max-hours", min=0.0, help="Per family: ask for no more after this.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Let families meet at equal budgets on the same test questions: differences, intervals, and what could be seen."""
    from experiments.duel.command import run_duel
    from experiments.run import Overrides

    overrides = Overrides(data=data, trials=trials, max_hours=max_hours)
    with explained():
        run_duel(study, overrides=overrides, fixed=fixed, models_roots=models_root, out=out, device=device)


@app.command("report", epilog="Example: mergesearch report runs/demo")
def report_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study, finished or not.")],
) -> None:
    """Write a study's report: one HTML page that needs no network, and its tables as CSV and Markdown."""
    from experiments.report.page import write_report

    with explained():
        typer.echo(f"report: {write_report(study)}")


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
