"""`mergesearch merge`: reference merges, mergekit's flags, and an output folder that is whole or not there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import ROOT
from tests.experiments.release.merging import LINEAR, merge, recipe, refused, run
from tests.merge.checkpoint.test_tokenizer import write as write_words
from tests.merge.parents import tensors_of, write_model


@pytest.mark.parametrize(
    "name", ["dare_ties_llamat_fp16", "multi_slerp_then_ties_phi_fp32", "passthrough_stack_mistral_bf16"]
)
def test_the_command_gives_the_reference_bits(golden: Path, name: str, tmp_path: Path) -> None:
    case = golden / "cases" / name
    seed = json.loads((case / "case.json").read_text()).get("random_seed", 0)
    code, out, err = run(
        *(case / "recipe.yaml", tmp_path / "out", "--models-root", golden / "models"),
        *("--compat", "mergekit", "--random-seed", seed),
    )
    assert (code, err) == (0, "")
    assert out == f"merged model: {tmp_path / 'out'}\n"
    result, expected = load_file(tmp_path / "out" / "model.safetensors"), load_file(case / "expected.safetensors")
    assert all(torch.equal(result[name].view(torch.uint8), t.view(torch.uint8)) for name, t in expected.items())


IDLE = [
    ("--lazy-unpickle",),
    ("--low-cpu-memory",),
    ("--read-to-gpu",),
    ("--multi-gpu",),
    ("--clone-tensors",),
    ("--trust-remote-code",),
    ("--lora-merge-cache", "x"),
    ("--async-write",),
    ("--write-threads", "2"),
    ("-j", "2"),
    ("-v",),
]


def test_flags_that_need_no_action_say_why_in_a_line_each(home: Path) -> None:
    code, out, err = merge(home, LINEAR, *(word for flag in IDLE for word in flag))
    assert code == 0
    assert len(out.splitlines()) == 1
    assert len(err.splitlines()) == len(IDLE)
    assert all(": accepted, nothing to do: " in line for line in err.splitlines())


def test_quiet_says_nothing(home: Path) -> None:
    assert merge(home, LINEAR, "--quiet", "--lazy-unpickle") == (0, "", "")


def test_flags_that_act_do(home: Path) -> None:
    flags = ("--out-shard-size", "4K", "--no-copy-tokenizer", "--no-write-model-card", "--allow-crimes")
    code, _, err = merge(home, LINEAR, *flags, "--transformers-cache", home / "cache", "--safe-serialization")
    assert (code, err) == (0, "")
    names = {path.name for path in (home / "out").iterdir()}
    assert "model.safetensors.index.json" in names
    assert not names & {"README.md", "mergekit_config.yml"}


def test_the_dtype_of_folding_is_the_flags(home: Path) -> None:
    document = {"merge_method": "passthrough", "models": [{"model": "base+lora"}]}
    assert merge(home, document, "--lora-merge-dtype", "bfloat16")[0] == 0
    found = load_file(home / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    assert json.loads((home / "out" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("flag", ["--cuda", "--gpu-rich"])
def test_a_gpu_that_is_not_there_is_told_in_one_line(home: Path, flag: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert "--device cuda: must be a device that torch can use here" in refused(home, LINEAR, flag)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--no-safe-serialization",), "safetensors only"),
        (("--device", "warp"), "--device warp: must be a device"),
        (("--out-shard-size", "big"), "--out-shard-size: must be a number of bytes"),
        (("--lora-merge-dtype", "int3"), "--lora-merge-dtype: must be one of float32"),
        (("--compat", "axolotl"), "--compat: must be 'mergekit'"),
    ],
)
def test_flags_with_wrong_values_are_refused(home: Path, flags: tuple[str, ...], words: str) -> None:
    assert words in refused(home, LINEAR, *flags)


def test_output_that_is_a_file_or_not_empty_is_refused_without_force(home: Path) -> None:
    (home / "out").write_text("mine")
    assert "must be a folder, got a file" in refused(home, LINEAR)
    (home / "out").unlink()
    (home / "out").mkdir()
    (home / "out" / "notes.txt").write_text("mine")
    assert "must be empty; choose another folder or use --force" in refused(home, LINEAR)
    assert (home / "out" / "notes.txt").read_text() == "mine"
    assert merge(home, LINEAR, "--force")[0] == 0
    assert not (home / "out" / "notes.txt").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system with room for 24 kB: less than the tiny model."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24K", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system of 24 kB cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("stages", [1, 2])
def test_a_full_disk_leaves_nothing(home: Path, small_disk: Path, stages: int) -> None:
    documents = [{**LINEAR, "name": "first"}, {**LINEAR, "base_model": "first"}][-stages:]
    documents[-1] = LINEAR if stages == 1 else documents[-1]
    code, _, err = run(recipe(home, *documents), small_disk / "out", "--models-root", home / "models")
    assert code == 1
    assert "No space left on device" in err
    assert len(err.splitlines()) == 1
    assert list(small_disk.iterdir()) == []


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models root with a model that takes a moment to merge: 80 MB, in shards to be."""
    root = tmp_path_factory.mktemp("large")
    for seed, name in enumerate(("a", "b")):
        tensors = tensors_of(seed)
        tensors["model.embed_tokens.weight"] = torch.zeros(1_250_000, 16)
        write_model(root / "models" / name, tensors, vocab_size=1_250_000)
    return root


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_merge_leaves_nothing_under_the_final_name(large: Path, tmp_path: Path, blow: int) -> None:
    file = recipe(tmp_path, LINEAR)
    command = [sys.executable, "-m", "experiments", "merge", str(file), "out", "--models-root", str(large / "models")]
    for _ in range(6):  # a merge takes a tenth of a second, and the blow may come too late
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(blow)
        _, err = process.communicate(timeout=60)
        if not (tmp_path / "out").exists():
            break
        shutil.rmtree(tmp_path / "out")
    assert process.returncode != 0
    assert not (tmp_path / "out").exists()
    if blow == signal.SIGINT:
        assert process.returncode == 130
        assert b"Traceback" not in err
    if blow != signal.SIGKILL:
        assert list(tmp_path.glob(".out.*")) == []


def test_what_a_kill_left_behind_is_cleared_by_the_next_merge(home: Path) -> None:
    left = home / ".out.dead.partial"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    os.utime(left, (0, 0))
    assert merge(home, LINEAR)[0] == 0
    assert not left.exists()


def test_different_vocabularies_merge_by_rule_and_generate(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for name, words, seed in (("a", "abcd", 1), ("b", "adxb", 2)):
        write_words(tmp_path / "models" / name, words, seed)
    code, _, err = merge(tmp_path, LINEAR | {"base_model": "a", "tokenizer": {"source": "union"}})
    assert code == 0, err
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.config.vocab_size == 5
    ids = torch.tensor([[tokenizer.get_vocab()[word] for word in "xab"]])
    told = model.generate(ids, max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=0)
    assert told.shape == (1, 6)
    assert tokenizer.decode(told[0, :3]).replace(" ", "") == "xab"
