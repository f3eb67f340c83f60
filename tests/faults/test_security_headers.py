"""Hostile safetensors headers: refused before anything is allocated by them, in a line with the file and the tensor."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import app
from merge.checkpoint.reader import Checkpoint
from merge.checkpoint.safetensors_file import read_headers
from merge.errors import CheckpointError
from tests.faults.kinds import safetensors
from tests.faults.watch import invoked
from tests.merge.parents import CONFIG

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
SMALL = 1 << 20
"""Bytes that reading a small header may take."""


def header(**tensors: Any) -> str:
    return json.dumps(tensors)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "length of 2**63": (safetensors("{}", b"", 2**63), "cut short"),
    "length of 2**64 - 1": (safetensors("{}", b"", 2**64 - 1), "cut short"),
    "header beyond the file": (safetensors(header(w=F32), b"", 10_000), "cut short"),
    "no bytes": (b"", "cut short"),
    "four bytes": (b"\1\0\0\0", "cut short"),
    "no JSON": (safetensors("{", b""), "header: is not JSON"),
    "a list": (safetensors("[]", b""), "got another header"),
    "deep": (safetensors("[" * 5000 + "]" * 5000, b""), "too deep"),
    "deeper metadata": (safetensors(header(__metadata__={"a": {"b": {}}}), b""), "__metadata__"),
    "overlap": (safetensors(header(a=F32, b={**F32, "data_offsets": [4, 12]}), bytes(12)), "b: must not overlap"),
    "the same bytes": (safetensors(header(a=F32, b=F32), bytes(8)), "b: must not overlap"),
    "a gap": (safetensors(header(a=F32, b={**F32, "data_offsets": [12, 20]}), bytes(20)), "b: must follow"),
    "bytes before": (safetensors(header(w={**F32, "data_offsets": [4, 12]}), bytes(12)), "w: must follow"),
    "bytes behind": (safetensors(header(w=F32), bytes(9)), "must end with its last tensor"),
    "negative offset": (safetensors(header(w={**F32, "data_offsets": [-8, 0]}), bytes(8)), "w: must have dtype"),
    "turned offsets": (safetensors(header(w={**F32, "data_offsets": [8, 0]}), bytes(8)), "w: must hold F32"),
    "offset beyond": (safetensors(header(w={**F32, "data_offsets": [0, 2**62]}), bytes(8)), "w: must hold F32"),
    "three offsets": (safetensors(header(w={**F32, "data_offsets": [0, 8, 8]}), bytes(8)), "w: must have dtype"),
    "offset of text": (safetensors(header(w={**F32, "data_offsets": ["0", "8"]}), bytes(8)), "w: must have dtype"),
    "fractional side": (safetensors(header(w={**F32, "shape": [2.5]}), bytes(8)), "w: must have dtype"),
    "true as a side": (safetensors(header(w={**F32, "shape": [True, 2]}), bytes(8)), "w: must have dtype"),
    "negative sides": (safetensors(header(w={**F32, "shape": [-1, -2]}), bytes(8)), "w: must have dtype"),
    "product beyond 64 bits": (safetensors(header(w={**F32, "shape": [2**32, 2**32]}), bytes(8)), "w: must hold F32"),
    "nothing of very much": (
        safetensors(header(w={**F32, "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}), b""),
        "w: must hold F32",
    ),
    "a side of a thousand digits": (
        safetensors(header(w=F32).replace("[2]", "[1" + "0" * 1000 + "]"), bytes(8)),
        "whole number",
    ),
    "too many sides": (safetensors(header(w={**F32, "shape": [1] * 500}), bytes(4)), "w: must have dtype"),
    "unknown dtype": (safetensors(header(w={**F32, "dtype": "F4_SECRET"}), bytes(8)), "w: dtype must be one of"),
    "dtype of no text": (safetensors(header(w={**F32, "dtype": ["F32"]}), bytes(8)), "w: dtype must be one of"),
    "a name twice": (safetensors(header(w=F32, v=F32).replace('"v"', '"w"'), bytes(8)), "stands twice"),
    "a name of half a character": (safetensors(header(**{"\ud800": F32}), bytes(8)), "half a character"),
    "a name that rings": (safetensors(header(**{"w\x1b[31m": F32}), bytes(8)), "can be printed"),
    "no entry": (safetensors(header(w=None), b""), "w: must have dtype"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE, ids=str)
def test_a_hostile_header_is_one_line_with_its_place(case: str, tmp_path: Path) -> None:
    import tracemalloc

    raw, words = HOSTILE[case]
    (tmp_path / "model.safetensors").write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as raised:
            read_headers(tmp_path / "model.safetensors")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    said = str(raised.value)
    assert said.startswith(str(tmp_path / "model.safetensors"))
    assert words in said
    assert len(said.splitlines()) == 1
    assert peak < SMALL


def test_an_empty_file_of_tensors_is_no_fault_of_its_header(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors("{}", b""))
    assert read_headers(tmp_path / "model.safetensors") == {}


def test_a_header_beyond_the_formats_limit_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as stream:
        stream.write((10**9).to_bytes(8, "little"))
        stream.truncate(8 + 10**9)  # a sparse file: no byte of it is on the disk
    with pytest.raises(CheckpointError, match="at most 100000000 bytes, got 1000000000"):
        read_headers(file)


@pytest.mark.parametrize(
    "where", ["../outside.safetensors", "/outside.safetensors", "..", "", "a/b.safetensors", "\n", 5, ["x"]], ids=ascii
)
def test_an_index_names_files_beside_it(where: object, tmp_path: Path) -> None:
    (tmp_path / "outside.safetensors").write_bytes(safetensors(header(w=F32), bytes(8)))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": where}}))
    with pytest.raises(CheckpointError, match=r"index\.json: [^\n]*weight_map[^\n]*$"):
        Checkpoint("model", folder)


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(HOSTILE["overlap"][0])
    (tmp_path / "recipe.yaml").write_text("merge_method: passthrough\nmodels: [{model: model}]\n")
    arguments = ["merge", str(tmp_path / "recipe.yaml"), str(tmp_path / "out"), "--models-root", str(tmp_path)]
    heard = invoked(app, arguments, (tmp_path,))
    assert heard.code == 2
    assert not list(heard.faults(size=100, places=("model.safetensors: b:",)))
    assert not (tmp_path / "out").exists()
