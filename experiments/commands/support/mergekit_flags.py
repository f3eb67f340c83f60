"""Flags of mergekit-yaml that need no action here: accepted, and each says in one line why."""

from collections.abc import Mapping

import typer

from experiments.errors import InputError

_REASONS = {
    "lazy_unpickle": "tensors are always read one by one",
    "low_cpu_memory": "a merge holds one tensor and its parents at a time",
    "read_to_gpu": "parents go to the device of --device as they are read",
    "multi_gpu": "one device is enough: merging is bound by reading and writing",
    "clone_tensors": "every output tensor is written on its own, repeated layers too",
    "trust_remote_code": "no code of a model is ever run",
    "lora_merge_cache": "adapters are folded in tensor by tensor; nothing is cached",
    "async_write": "the operating system writes behind",
    "write_threads": "the operating system writes behind",
    "num_threads": "merging is bound by memory; the result is the same for any number of threads",
    "verbose": "what is merged stands in the recipe; nothing more is logged",
}


def idle_flags(given: Mapping[str, object], *, quiet: bool) -> None:
    """Say of each flag that was given and needs no action why that is so.

    Args:
        given: Values by the names of the options.
        quiet: Say nothing.

    Raises:
        InputError: Pickled output was asked for.
    """
    if not given["safe_serialization"]:
        raise InputError("--no-safe-serialization: weights are written as safetensors only; leave it out")
    for name, reason in _REASONS.items():
        if given[name] and not quiet:
            flag = "-v" if name == "verbose" else f"--{name.replace('_', '-')}"
            typer.echo(f"{flag}: accepted, nothing to do: {reason}", err=True)
