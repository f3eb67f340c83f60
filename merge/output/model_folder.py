"""Sink: a model folder, streamed tensor by tensor, and renamed to its name only when it is complete."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from merge.checkpoint.safetensors_file import write_header, write_tensor
from merge.errors import OutputError, OutputTakenError
from merge.output.interrupts import held_interrupts
from merge.output.model_card import model_card
from merge.output.work_folder import work_folder
from merge.planning.plan import Plan, TensorPlan
from merge.recipe.schema import Recipe

_MUCH = 32_000_000
"""Bytes that the system is asked to store at a time."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True)
class FolderOptions:
    """How a folder is written.

    Args:
        shard_size: Bytes per file of weights.
        copy_tokenizer: Copy the tokenizer's files from the model that gives the config.
        force: Replace a folder that is not empty.
        card: Write README.md and mergekit_config.yml.
    """

    shard_size: int
    copy_tokenizer: bool
    force: bool
    card: bool


@dataclass(frozen=True)
class Donor:
    """Where a folder gets what is not weights.

    Args:
        folder: The model whose files are copied.
        tokenizer: A tokenizer to save instead, where the recipe has a tokenizer block.
        chat_template: A chat template to write, None to keep the copied one.
    """

    folder: Path
    tokenizer: Any
    chat_template: str | None


def write_folder(
    out: Path,
    plan: Plan,
    recipe: Recipe,
    tensors: Iterator[Tensor],
    donor: Donor,
    options: FolderOptions,
    finish: Callable[[Path], None] | None = None,
) -> Path:
    """Write the tensors, in the plan's order, and everything beside them; return the folder.

    `finish` adds what else belongs there before the folder gets its name.

    Raises:
        OutputTakenError: The folder is not empty.
        OutputError: Writing failed; nothing is left behind.
        KeyboardInterrupt: Ctrl-C, as SystemExit on SIGTERM: heard between two tensors; nothing is left behind.
    """
    check_free(out, force=options.force)
    with held_interrupts() as safe_point, work_folder(out, ".partial") as work:
        try:
            work.chmod(0o755)
            _write_weights(work, plan.tensors, _stoppable(tensors, safe_point), options.shard_size)
            _write_beside(work, plan, recipe, donor, options)
            if finish is not None:
                finish(work)
            _flush(work)
            safe_point()
            _rename(work, out)
        except OSError as error:
            said = error.strerror or error
            raise OutputError(f"{out}: cannot be written: {said}; nothing was left behind") from error
    return out


def check_free(out: Path, *, force: bool) -> None:
    """Find out whether an output folder may be written.

    Raises:
        OutputTakenError: A file is there, or a folder that is not empty, without `force`.
    """
    for folder in (out, *out.parents):
        if folder.exists() and not folder.is_dir():
            raise OutputTakenError(f"{folder}: must be a folder, got a file; choose another one")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise OutputTakenError(f"{out}: must be empty; choose another folder or use --force")


def check_apart(out: Path, folders: Mapping[str, Path]) -> None:
    """Find out whether an output folder would replace a model that goes into it.

    Args:
        out: The output folder.
        folders: Where the models lie, by reference.

    Raises:
        OutputTakenError: One of them lies in it.
    """
    for reference, folder in folders.items():
        if folder.resolve().is_relative_to(out.resolve()):
            raise OutputTakenError(
                f"{out}: must not hold a model of the recipe, got {reference}; choose another folder"
            )


def _stoppable(tensors: Iterator[Tensor], safe_point: Callable[[], None]) -> Iterator[Tensor]:
    for tensor in tensors:
        safe_point()
        yield tensor


def _write_weights(folder: Path, plans: Sequence[TensorPlan], tensors: Iterator[Tensor], limit: int) -> None:
    shards = _shards(plans, limit)
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        with (folder / name).open("wb") as stream:
            write_header(stream, {plan.name: (plan.dtype, plan.shape) for plan in shard})
            begun = 0
            for _ in shard:
                write_tensor(stream, next(tensors))
                begun = _begin(stream, begun)
    if len(shards) > 1:
        where = {plan.name: name for name, shard in zip(names, shards, strict=True) for plan in shard}
        total = sum(_size(plan) for plan in plans)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        _write_json(folder / "model.safetensors.index.json", index)


def _begin(stream: BinaryIO, begun: int) -> int:
    """Let the system begin to store what was written since `begun`, once it is much; return up to where it has.

    Linux does so when told that the pages are not needed; the wait at the end is then for the last of them only.
    """
    written = stream.tell()
    if written - begun < _MUCH or not hasattr(os, "posix_fadvise"):
        return begun
    stream.flush()
    with suppress(OSError):  # some file systems take no advice
        os.posix_fadvise(stream.fileno(), begun, written - begun, os.POSIX_FADV_DONTNEED)
    return written


def _shards(plans: Sequence[TensorPlan], limit: int) -> list[list[TensorPlan]]:
    shards: list[list[TensorPlan]] = [[]]
    held = 0
    for plan in plans:
        if shards[-1] and held + _size(plan) > limit:
            shards.append([])
            held = 0
        shards[-1].append(plan)
        held += _size(plan)
    return shards


def _size(plan: TensorPlan) -> int:
    return prod(plan.shape) * plan.dtype.itemsize


def _write_beside(folder: Path, plan: Plan, recipe: Recipe, donor: Donor, options: FolderOptions) -> None:
    _write_json(folder / "config.json", plan.config)
    wanted = ["generation_config.json"]
    if donor.tokenizer is not None:
        donor.tokenizer.save_pretrained(folder)
    elif options.copy_tokenizer:
        wanted += TOKENIZER_FILES
    for name in wanted:
        if (donor.folder / name).is_file():
            shutil.copyfile(donor.folder / name, folder / name)
    if donor.chat_template is not None:
        (folder / "chat_template.jinja").write_text(donor.chat_template, "utf-8")
    if options.card:
        (folder / "mergekit_config.yml").write_text(recipe.to_yaml(), "utf-8")
        (folder / "README.md").write_text(model_card(recipe), "utf-8")


def _write_json(file: Path, document: object) -> None:
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _flush(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _rename(work: Path, out: Path) -> None:
    """Give the finished folder its name; an old one stands aside until that is done."""
    if not out.exists():
        work.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    out.rename(aside / "old")
    try:
        work.rename(out)
    except OSError:
        (aside / "old").rename(out)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
