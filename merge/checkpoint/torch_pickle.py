"""Old checkpoints in PyTorch's own format, read with ``weights_only`` and memory-mapped."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from merge.checkpoint.safetensors_file import Header
from merge.checkpoint.symlinks import names_file_beside
from merge.documents import DocumentError, read_json, read_text
from merge.errors import CheckpointError

LARGEST = 50_000_000
"""Bytes of an index."""


class Pickled:
    """The tensors of ``pytorch_model*.bin`` files."""

    def __init__(self, files: dict[Path, dict[str, Tensor]]) -> None:
        self._tensors = {name: tensor for tensors in files.values() for name, tensor in tensors.items()}
        self.headers = {
            name: Header(file, tensor.dtype, tuple(tensor.shape))
            for file, tensors in files.items()
            for name, tensor in tensors.items()
        }

    def tensor(self, name: str) -> Tensor:
        """Return a tensor, mapped."""
        return self._tensors[name]


def open_pickled(folder: Path) -> Pickled:
    """Open a folder of ``.bin`` files.

    Raises:
        CheckpointError: A file is missing, or holds more than tensors.
    """
    files: dict[Path, dict[str, Tensor]] = {}
    for name in _names(folder):
        try:
            found = torch.load(folder / name, map_location="cpu", mmap=True, weights_only=True)
        except Exception as error:  # noqa: BLE001 (torch raises many kinds; all mean the file is no good)
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{folder / name}: must hold tensors only, got {said}") from None
        if not isinstance(found, Mapping) or not all(
            isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()
        ):
            raise CheckpointError(f"{folder / name}: must hold tensors by name, got something else; fetch it again")
        files[folder / name] = dict(found)
    return Pickled(files)


def _names(folder: Path) -> list[str]:
    index = folder / "pytorch_model.bin.index.json"
    if not index.is_file():
        return ["pytorch_model.bin"]
    try:
        document = read_json(read_text(index, LARGEST), str(index))
    except (OSError, DocumentError) as error:
        raise CheckpointError(f"{error}; fetch it again") from None
    where = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(where, dict) or not all(names_file_beside(file) for file in where.values()):
        raise CheckpointError(f"{index}: must have a weight_map that names files beside it; repair the index")
    return sorted(set(where.values()))
