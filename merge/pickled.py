"""Old checkpoints in PyTorch's own format, read with ``weights_only`` and memory-mapped."""

import json
from pathlib import Path

import torch
from torch import Tensor

from merge.errors import CheckpointError
from merge.safetensors_file import Header


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
    index = folder / "pytorch_model.bin.index.json"
    names = ["pytorch_model.bin"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    files: dict[Path, dict[str, Tensor]] = {}
    for name in names:
        try:
            files[folder / name] = torch.load(folder / name, map_location="cpu", mmap=True, weights_only=True)
        except Exception as error:  # noqa: BLE001 (torch raises many kinds; all mean the file is no good)
            raise CheckpointError(
                f"{folder / name}: must hold tensors only, got {str(error).splitlines()[0]}"
            ) from None
    return Pickled(files)
