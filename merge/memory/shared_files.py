"""Tensors that processes of one host compute once and map from files, so that the host holds them once."""

import hashlib
import os
from collections.abc import Callable
from math import prod
from pathlib import Path

import torch
from torch import Tensor

FORMAT = 1
"""Raised when the same key stands for other bytes."""


class SharedFiles:
    """Tensors by key, in files of a folder.

    Whoever needs a tensor first makes it; two who make it at the same time make the same, and the last file stays.
    Where nothing can be written, each process has a copy of its own: memory is lost, and no result.

    Args:
        folder: Made when something is put there; it may be deleted when nobody uses it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tensor(self, key: str, shape: tuple[int, ...], dtype: torch.dtype, make: Callable[[], Tensor]) -> Tensor:
        """Return the tensor of a key, mapped from its file; what is written to it stays with this process.

        Args:
            key: Says all that the tensor depends on.
            shape: Its shape.
            dtype: Its dtype.
            make: Makes it.
        """
        name = hashlib.sha256(f"{FORMAT}|{key}|{shape}|{dtype}".encode()).hexdigest()
        file, count = self.folder / f"{name[:40]}.bin", prod(shape)
        if not count:
            return make()
        if not file.is_file() or file.stat().st_size != count * dtype.itemsize:
            value = make()
            try:
                self._write(file, value)
            except OSError:
                return value
        return torch.from_file(str(file), shared=False, size=count, dtype=dtype).view(shape)

    def _write(self, file: Path, value: Tensor) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{os.getpid()}.partial")
        try:
            with beside.open("wb") as handle:
                value.contiguous().view(-1).view(torch.uint8).numpy().tofile(handle)
                handle.flush()
                os.fsync(handle.fileno())
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)
