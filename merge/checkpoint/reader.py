"""A read-only view of a model folder: names, shapes, dtypes and lazy tensors; adapters folded in."""

import hashlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from merge.checkpoint.lora import Adapter
from merge.checkpoint.safetensors_file import Header, read_headers
from merge.checkpoint.symlinks import check_links, names_file_beside
from merge.checkpoint.torch_pickle import open_pickled
from merge.checkpoint.truncation import tell_of_cut_files
from merge.documents import DocumentError, read_json, read_text
from merge.errors import CheckpointError, did_you_mean
from merge.recipe.model_reference import parse, resolve

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LARGEST_JSON = 50_000_000
"""Bytes of a config or an index; that of the largest models has some 5 MB."""


class Checkpoint:
    """A model on disk, read tensor by tensor. Tensors are memory-mapped: reading one copies nothing.

    Args:
        reference: What the model was called; messages begin with it.
        folder: Holds ``config.json`` and the weights.
        adapter: Folded into every tensor it targets, when that tensor is read.
        lora_dtype: What every tensor of a model with an adapter is rounded to, before and after folding; None keeps its
            own.
        allow_pickle: Whether ``.bin`` files may be read where there are no safetensors.

    Raises:
        CheckpointError: A file is missing, broken or does not fit the others.
    """

    def __init__(
        self,
        reference: str,
        folder: Path,
        *,
        adapter: Adapter | None = None,
        lora_dtype: torch.dtype | None = None,
        allow_pickle: bool = False,
    ) -> None:
        self.reference = reference
        self.folder = folder
        self.adapter = adapter
        self._lora_dtype = lora_dtype if adapter is not None else None
        check_links(folder)
        self.config: dict[str, Any] = _json(folder / "config.json", reference)
        self._pickled = None
        try:
            self._headers = _headers(folder, reference)
        except CheckpointError:
            if not any(folder.glob("*.bin")) or any(folder.glob("*.safetensors")):
                raise
            if not allow_pickle:
                said = f"{reference}: {folder} holds pickled .bin weights only"
                raise CheckpointError(f"{said}; use --allow-pickle, or convert them to safetensors") from None
            self._pickled = open_pickled(folder)
            self._headers = self._pickled.headers
        if adapter is not None:
            adapter.check(self._headers, reference)
        self._open: dict[Path, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors, sorted."""
        return tuple(sorted(self._headers))

    def __contains__(self, name: str) -> bool:
        return name in self._headers

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._header(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor."""
        own = self._header(name).dtype
        return own if self._lora_dtype is None or not own.is_floating_point else self._lora_dtype

    def identity(self, name: str) -> tuple[str, str]:
        """Return what the bytes of a tensor are: a folder and a name; adapters that leave it alone share it."""
        folded = "" if self.adapter is None or name not in self.adapter.targets else f"+{self.adapter.folder}"
        rounded = "" if self._lora_dtype is None else f"|{self._lora_dtype}"
        return (f"{self.folder}{folded}{rounded}", name)

    def is_folded(self, name: str) -> bool:
        """Return whether reading the tensor computes it, rather than mapping it."""
        return self.adapter is not None and (name in self.adapter.targets or self._lora_dtype is not None)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor; with an adapter, folded now."""
        header = self._header(name)
        if self._pickled is not None:
            stored = self._pickled.tensor(name)
        else:
            if header.file not in self._open:
                tell_of_cut_files()
                self._open[header.file] = safe_open(header.file, framework="pt")
            stored = self._open[header.file].get_tensor(name)
        assert isinstance(stored, Tensor)
        if self._lora_dtype is not None and stored.is_floating_point():
            stored = stored.to(self._lora_dtype)
        folded = self.adapter is not None and name in self.adapter.targets
        return self.adapter.fold(name, stored) if self.adapter is not None and folded else stored

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the weights, adapter included."""
        files = sorted({header.file for header in self._headers.values()})
        return (
            *files,
            *(() if self.adapter is None else (self.adapter.file, self.adapter.folder / "adapter_config.json")),
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 over the contents of all files of weights (headers included)."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.name}\0{_file_digest(file, *_stamp(file))}\n".encode())
        return digest.hexdigest()

    def _header(self, name: str) -> Header:
        if name not in self._headers:
            raise CheckpointError(f"{self.reference}: no tensor '{name}'{did_you_mean(name, self._headers)}")
        return self._headers[name]


def open_checkpoint(
    reference: str,
    models_roots: Sequence[Path] = (),
    *,
    lora_dtype: torch.dtype | None = None,
    allow_pickle: bool = False,
) -> Checkpoint:
    """Open a model by reference; an adapter after ``+`` is folded in.

    Raises:
        CheckpointError: The reference leads nowhere, or what is there cannot be used.
    """
    parsed = parse(reference)
    folder = resolve(parsed.base, models_roots)
    adapter = None if parsed.adapter is None else Adapter(resolve(parsed.adapter, models_roots))
    return Checkpoint(reference, folder, adapter=adapter, lora_dtype=lora_dtype, allow_pickle=allow_pickle)


def _headers(folder: Path, reference: str) -> dict[str, Header]:
    index = folder / INDEX
    if not index.is_file():
        if not (folder / SINGLE).is_file():
            raise CheckpointError(f"{reference}: {folder} must hold {SINGLE} or {INDEX}; convert it to safetensors")
        return read_headers(folder / SINGLE)
    where = _json(index, reference).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(file, str) for file in where.values()):
        raise CheckpointError(f"{index}: must have a weight_map of tensors to file names; fetch it again")
    outside = sorted({file for file in where.values() if not names_file_beside(file)})
    if outside:
        raise CheckpointError(f"{index}: weight_map must name files beside it, got {outside[0]!r}; repair the index")
    missing = sorted(set(where.values()) - {file.name for file in folder.iterdir() if file.is_file()})
    if missing:
        raise CheckpointError(f"{reference}: {folder} must hold {', '.join(missing)}; fetch the rest of the model")
    shards = {file: read_headers(folder / file) for file in sorted(set(where.values()))}
    absent = [name for name, file in where.items() if name not in shards[file]]
    if absent:
        raise CheckpointError(f"{index}: {absent[0]} must be in {where[absent[0]]}, which does not hold it")
    return {name: shards[file][name] for name, file in where.items()}


def _json(file: Path, reference: str) -> dict[str, Any]:
    try:
        document = read_json(read_text(file, LARGEST_JSON), str(file))
    except FileNotFoundError:
        raise CheckpointError(f"{reference}: {file.parent} must hold {file.name}") from None
    except OSError as error:
        raise CheckpointError(f"{file}: must be JSON, got {error}") from None
    except DocumentError as error:
        raise CheckpointError(f"{error}; fetch it again") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{file}: must be a JSON object, got {type(document).__name__}")
    return document


def _stamp(file: Path) -> tuple[int, int, int, int]:
    """Return what tells that a file was changed; its time of change cannot be set back as that of its content can."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=1024)
def _file_digest(file: Path, *stamp: int) -> str:  # noqa: ARG001
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
