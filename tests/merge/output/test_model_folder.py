"""Output folders: complete or absent, sharded as asked, readable by transformers."""

import errno
import json
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from merge.checkpoint.reader import open_checkpoint
from merge.checkpoint.safetensors_file import read_headers, write_tensor
from merge.errors import CheckpointError, OutputError
from merge.merger import Merger
from merge.output import model_folder as writer
from tests.merge.parents import recipe_of, tensors_of, write_model

LINEAR = recipe_of("linear", base=None, models={"a": {"weight": 1.0}, "b": {"weight": 1.0}})


def test_shards_hold_what_one_file_holds(merger: Merger, tmp_path: Path) -> None:
    whole = load_file(merger.merge_to_folder(LINEAR, tmp_path / "one") / "model.safetensors")
    folder = merger.merge_to_folder(LINEAR, tmp_path / "many", out_shard_size=4000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert all(sum(t.nbytes for t in load_file(s).values()) <= 4000 or len(load_file(s)) == 1 for s in shards)
    for name, tensor in whole.items():
        with safe_open(folder / index["weight_map"][name], framework="pt") as shard:
            assert torch.equal(shard.get_tensor(name), tensor)
    assert open_checkpoint(str(folder)).names == tuple(sorted(whole))


def test_a_folder_loads_in_transformers_and_carries_its_recipe(merger: Merger, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = merger.merge_to_folder(LINEAR, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(folder)
    stored = load_file(folder / "model.safetensors")
    assert torch.equal(model.model.norm.weight, stored["model.norm.weight"])
    assert yaml.safe_load((folder / "mergekit_config.yml").read_text()) == LINEAR.to_mapping()
    assert "base_model:\n- a\n- b" in (folder / "README.md").read_text()


@pytest.mark.parametrize("copied", [True, False])
def test_what_stands_beside_the_weights_comes_from_the_donor(
    merger: Merger, family: Path, tmp_path: Path, *, copied: bool
) -> None:
    names = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "notes.txt")
    for name in names:
        (family / "a" / name).write_text(f"{name} of a")
        (family / "b" / name).write_text(f"{name} of b")
    folder = merger.merge_to_folder(LINEAR, tmp_path / "out", copy_tokenizer=copied)
    assert {name for name in names if (folder / name).exists()} == set(names[: 4 if copied else 1])
    assert (folder / "generation_config.json").read_text() == "generation_config.json of a"


def test_a_full_disk_leaves_nothing_behind(merger: Merger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, threads = [], set(threading.enumerate())

    def full(stream: BinaryIO, tensor: Tensor) -> None:
        calls.append(tensor)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_tensor(stream, tensor)

    monkeypatch.setattr(writer, "write_tensor", full)
    with pytest.raises(OutputError, match="No space left on device") as fault:
        merger.merge_to_folder(LINEAR, tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []
    assert set(threading.enumerate()) <= threads, f"threads wait for {fault.value} to be forgotten"


def test_an_interruption_leaves_nothing_behind(merger: Merger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "_flush", interrupt)
    with pytest.raises(KeyboardInterrupt):
        merger.merge_to_folder(LINEAR, tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_folder_that_is_not_empty_is_kept_unless_forced(merger: Merger, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="must be empty"):
        merger.merge_to_folder(LINEAR, out)
    assert (out / "notes.txt").read_text() == "mine"
    merger.merge_to_folder(LINEAR, out, force=True)
    assert not (out / "notes.txt").exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_failed_replacement_keeps_the_old_folder(
    merger: Merger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = merger.merge_to_folder(LINEAR, tmp_path / "out")
    before = (out / "model.safetensors").read_bytes()
    monkeypatch.setattr(
        writer, "write_tensor", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "input/output error"))
    )
    with pytest.raises(OutputError):
        merger.merge_to_folder(LINEAR, out, force=True)
    assert (out / "model.safetensors").read_bytes() == before


def test_what_is_stored_early_is_the_same_file(merger: Merger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = merger.merge_to_folder(LINEAR, tmp_path / "one") / "model.safetensors"
    begun: list[tuple[int, int]] = []

    def refused(_: int, start: int, size: int, __: int) -> None:
        begun.append((start, size))
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(writer, "_MUCH", 2000)
    monkeypatch.setattr("os.posix_fadvise", refused, raising=False)
    early = merger.merge_to_folder(LINEAR, tmp_path / "two") / "model.safetensors"
    assert early.read_bytes() == whole.read_bytes()
    assert [start for start, _ in begun[1:]] == [start + size for start, size in begun[:-1]]
    assert len(begun) > 2


@pytest.mark.parametrize("cut", [4, 40, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    file = write_model(tmp_path / "m", tensors_of(0)) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_headers(file)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(family: Path, missing: str) -> None:
    (family / "a" / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        open_checkpoint("a", [family])
