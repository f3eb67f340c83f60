"""The command that merges, with mergekit's flags."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.fast_imports import uncollected
from experiments.commands.support.options import IDLE, ModelsRoot
from experiments.exit_codes import explained


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
    lora_merge_dtype: Annotated[
        str | None,
        typer.Option("--lora-merge-dtype", metavar="DTYPE", help="Round model+lora to it; otherwise as its base."),
    ] = None,
    async_write: Annotated[bool, typer.Option("--async-write/--no-async-write", **IDLE)] = False,
    write_threads: Annotated[int | None, typer.Option("--write-threads", **IDLE)] = None,
    num_threads: Annotated[int | None, typer.Option("-j", "--num-threads", **IDLE)] = None,
    quiet: Annotated[bool, typer.Option("--quiet/--no-quiet", help="Print nothing but errors.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, **IDLE)] = 0,
) -> None:
    """Build the model folder of a recipe, one tensor at a time."""
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
