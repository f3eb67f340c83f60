"""``mergesearch merge``, with mergekit's flags."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.fast_imports import uncollected
from experiments.commands.support.options import (
    IDLE,
    INPUT,
    MACHINE,
    OUTPUT,
    RECIPE,
    Device,
    ModelsRoot,
    OutShardSize,
)
from experiments.exit_codes import explained


def merge_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="A mergekit recipe, also of several stages.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write the merged model to.")],
    models_root: ModelsRoot = None,
    transformers_cache: Annotated[
        Path | None,
        typer.Option(
            "--transformers-cache", metavar="DIR", rich_help_panel=INPUT, help="The hub's cache, instead of its own."
        ),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle",
            rich_help_panel=INPUT,
            help="Read .bin checkpoints too; only tensors are read, no code is run.",
        ),
    ] = False,
    allow_nan: Annotated[
        bool, typer.Option("--allow-nan", rich_help_panel=INPUT, help="Accept parents that hold NaN.")
    ] = False,
    allow_crimes: Annotated[
        bool,
        typer.Option(
            "--allow-crimes/--no-allow-crimes",
            rich_help_panel=INPUT,
            show_default=False,
            help="Merge models of different architectures.",
        ),
    ] = False,
    random_seed: Annotated[
        int, typer.Option("--random-seed", metavar="N", rich_help_panel=RECIPE, help="Seed of random masks.")
    ] = 0,
    compat: Annotated[
        str | None,
        typer.Option(
            "--compat", metavar="mergekit", rich_help_panel=RECIPE, help="Give mergekit's bits, quirks included."
        ),
    ] = None,
    lora_merge_dtype: Annotated[
        str | None,
        typer.Option(
            "--lora-merge-dtype",
            metavar="DTYPE",
            rich_help_panel=RECIPE,
            help="Round a model with its adapter to this type; otherwise to its base's.",
        ),
    ] = None,
    device: Device = "cpu",
    cuda: Annotated[
        bool,
        typer.Option(
            "--cuda/--no-cuda", show_default=False, rich_help_panel=MACHINE, help="The same as --device cuda."
        ),
    ] = False,
    gpu_rich: Annotated[bool, typer.Option("--gpu-rich", rich_help_panel=MACHINE, help="The same as --cuda.")] = False,
    out_shard_size: OutShardSize = "5B",
    copy_tokenizer: Annotated[
        bool,
        typer.Option(
            "--copy-tokenizer/--no-copy-tokenizer",
            show_default="yes",
            rich_help_panel=OUTPUT,
            help="Write the tokenizer along.",
        ),
    ] = True,
    write_model_card: Annotated[
        bool,
        typer.Option(
            "--write-model-card/--no-write-model-card",
            show_default="yes",
            rich_help_panel=OUTPUT,
            help="Write README.md and mergekit_config.yml along.",
        ),
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=OUTPUT, help="Replace a folder that is not empty.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet/--no-quiet", show_default=False, rich_help_panel=OUTPUT, help="Print nothing but errors."
        ),
    ] = False,
    safe_serialization: Annotated[bool, typer.Option("--safe-serialization/--no-safe-serialization", **IDLE)] = True,
    lazy_unpickle: Annotated[bool, typer.Option("--lazy-unpickle/--no-lazy-unpickle", **IDLE)] = False,
    low_cpu_memory: Annotated[bool, typer.Option("--low-cpu-memory/--no-low-cpu-memory", **IDLE)] = False,
    read_to_gpu: Annotated[bool, typer.Option("--read-to-gpu/--no-read-to-gpu", **IDLE)] = False,
    multi_gpu: Annotated[bool, typer.Option("--multi-gpu/--no-multi-gpu", **IDLE)] = False,
    clone_tensors: Annotated[bool, typer.Option("--clone-tensors/--no-clone-tensors", **IDLE)] = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code/--no-trust-remote-code", **IDLE)] = False,
    lora_merge_cache: Annotated[str | None, typer.Option("--lora-merge-cache", metavar="DIR", **IDLE)] = None,
    async_write: Annotated[bool, typer.Option("--async-write/--no-async-write", **IDLE)] = False,
    write_threads: Annotated[int | None, typer.Option("--write-threads", metavar="N", **IDLE)] = None,
    num_threads: Annotated[int | None, typer.Option("-j", "--num-threads", metavar="N", **IDLE)] = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, **IDLE)] = 0,
) -> None:
    """Merge models: build the folder of a mergekit recipe, one tensor at a time."""
    with uncollected():
        from experiments.commands.support.mergekit_flags import idle_flags
        from experiments.release.merge_to_folder import BuildOptions, build_model

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
        lora_merge_dtype=lora_merge_dtype,
        hub_cache=transformers_cache,
        quiet=quiet,
    )
    with explained():
        idle_flags(locals(), quiet=quiet)
        build_model(recipe, out, models_roots=models_root, options=options)
