"""Reading and writing the safetensors layout: 8 bytes of header length, a JSON header, the tensors' bytes."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, TypeGuard

import torch
from torch import Tensor

from merge.documents import DocumentError, read_json
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
LONGEST = 100_000_000
"""Bytes of a header: the format's own limit."""
MOST_SIDES = 64
"""Sides of a tensor: torch's own limit."""
_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Header:
    """What a file says of one tensor."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]


def read_headers(file: Path) -> dict[str, Header]:
    """Return the header of every tensor of a file, checked against the file's size before anything is read by it.

    Raises:
        CheckpointError: The file is no safetensors file, is cut short, says of its tensors what cannot be, or holds a
            dtype that is not known.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8:
                raise CheckpointError(f"{file}: must be a safetensors file, got one cut short; fetch it again")
            if length > LONGEST:
                raise CheckpointError(f"{file}: must have a header of at most {LONGEST} bytes, got {length}")
            document = read_json(stream.read(length), f"{file}: header")
    except OSError as error:
        raise CheckpointError(f"{file}: must be a safetensors file, got {error}; fetch it again") from None
    except DocumentError as error:
        raise CheckpointError(f"{error}; fetch it again") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{file}: must be a safetensors file, got another header; fetch it again")
    told = document.pop("__metadata__", {})
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise CheckpointError(f"{file}: __metadata__: must be texts by name; fetch it again")
    room = size - 8 - length
    entries = {name: _entry(file, name, entry, room) for name, entry in document.items()}
    _check_order(file, {name: offsets for name, (_, offsets) in entries.items()}, room)
    return {name: header for name, (header, _) in entries.items()}


def _entry(file: Path, name: str, entry: object, room: int) -> tuple[Header, tuple[int, int]]:
    """Return what a header says of one tensor, and where its bytes are."""
    shape, offsets = (entry.get(key) if isinstance(entry, dict) else None for key in ("shape", "data_offsets"))
    if not (_is_counts(shape) and _is_counts(offsets) and len(offsets) == 2):
        raise CheckpointError(
            f"{file}: {name}: must have dtype, shape and data_offsets of whole numbers from 0; fetch it again"
        )
    assert isinstance(entry, dict)
    code = entry.get("dtype")
    if not isinstance(code, str) or code not in DTYPES:
        raise CheckpointError(f"{file}: {name}: dtype must be one of {', '.join(DTYPES)}, got {str(code)[:40]!r}")
    start, end = offsets
    if not name.isprintable():
        raise CheckpointError(f"{file}: {name!r}: must be a name that can be printed; fetch it again")
    if (
        not start <= end <= room
        or end - start != prod(shape) * DTYPES[code].itemsize
        or prod(filter(None, shape)) >= 2**63
    ):
        raise CheckpointError(
            f"{file}: {name}: must hold {code} of shape {str(list(shape))[:80]}, got bytes {start} to {end} of {room}; "
            "fetch it again"
        )
    return Header(file, DTYPES[code], tuple(shape)), (start, end)


def _is_counts(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list) and len(value) <= MOST_SIDES and all(type(item) is int and item >= 0 for item in value)
    )


def _check_order(file: Path, places: dict[str, tuple[int, int]], room: int) -> None:
    """Refuse tensors that overlap, or leave bytes that belong to none."""
    at = 0
    for name, (start, end) in sorted(places.items(), key=lambda place: place[1]):
        if start != at:
            what = "overlap the one before" if start < at else "follow the one before"
            must = "must not" if start < at else "must"
            raise CheckpointError(f"{file}: {name}: {must} {what}, got byte {start} where {at} is next; fetch it again")
        at = end
    if at != room:
        raise CheckpointError(f"{file}: must end with its last tensor, got {room - at} bytes more; fetch it again")


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
