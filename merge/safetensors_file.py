"""Reading and writing the safetensors layout: 8 bytes of header length, a JSON header, the tensors' bytes."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from merge.errors import CheckpointError

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Header:
    """What a file says of one tensor."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]


def read_headers(file: Path) -> dict[str, Header]:
    """Return the header of every tensor of a file, checked against the file's size.

    Raises:
        CheckpointError: The file is no safetensors file, is cut short, or holds a dtype that is not known.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8:
                raise CheckpointError(f"{file}: must be a safetensors file, got one cut short; fetch it again")
            document = json.loads(stream.read(length))
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file}: must be a safetensors file, got {error}; fetch it again") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{file}: must be a safetensors file, got another header; fetch it again")
    document.pop("__metadata__", None)
    headers = {str(name): _header(file, str(name), entry, size - 8 - length) for name, entry in document.items()}
    if headers and max(entry["data_offsets"][1] for entry in document.values()) != size - 8 - length:
        raise CheckpointError(f"{file}: must end with its last tensor, got {size} bytes; fetch it again")
    return headers


def _header(file: Path, name: str, entry: object, room: int) -> Header:
    try:
        assert isinstance(entry, dict)
        shape = tuple(int(side) for side in entry["shape"])
        start, end = (int(offset) for offset in entry["data_offsets"])
        code = str(entry["dtype"])
    except (AssertionError, KeyError, TypeError, ValueError):
        raise CheckpointError(f"{file}: {name}: must have dtype, shape and data_offsets; fetch it again") from None
    if code not in DTYPES:
        raise CheckpointError(f"{file}: {name}: must be one of {', '.join(DTYPES)}, got {code}")
    if not 0 <= start <= end <= room or end - start != prod(shape) * DTYPES[code].itemsize:
        raise CheckpointError(
            f"{file}: {name}: must hold {list(shape)} {code}, got {end - start} bytes; fetch it again"
        )
    return Header(file, DTYPES[code], shape)


def write_header(stream: BinaryIO, tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
    """Write the header of a file whose tensors follow in this order."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)


def write_tensor(stream: BinaryIO, tensor: Tensor) -> None:
    """Write a tensor's bytes."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.numel():
        stream.write(flat.view(torch.uint8).numpy().data)
