"""`mergesearch merge`: reference merges, mergekit's flags, and one clear line for everything that can be wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from experiments.cli import app
from tests.merge.parents import tensors_of, write_family, write_model
from tests.merge.test_tokenizer import write as write_words

SHARED = Path(os.environ.get("MERGESEARCH_SHARED", Path(__file__).resolve().parents[3] / "shared"))
CASES = sorted(path.parent for path in (SHARED / "golden" / "cases").glob("*/recipe.yaml"))
ROOT = Path(__file__).resolve().parents[2]
LINEAR: dict[str, Any] = {
    "merge_method": "linear",
    "models": [{"model": name, "parameters": {"weight": 0.5}} for name in ("a", "b")],
}
TIES: dict[str, Any] = {
    "merge_method": "ties",
    "base_model": "base",
    "models": [{"model": name, "parameters": {"weight": 0.5, "density": 0.5}} for name in ("a", "b")],
}


def run(*arguments: object) -> tuple[int, str, str]:
    """Run ``mergesearch merge``; return exit code, standard output, standard error."""
    result = CliRunner().invoke(app, ["merge", *map(str, arguments)], env={"COLUMNS": "200", "HF_HUB_OFFLINE": "1"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder with the tiny parents below ``models``."""
    write_family(tmp_path / "models")
    return tmp_path


def recipe(home: Path, *documents: object) -> Path:
    file = home / "recipe.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return file


def merge(home: Path, document: object, *flags: object) -> tuple[int, str, str]:
    return run(recipe(home, document), home / "out", "--models-root", home / "models", *flags)


def refused(home: Path, document: object, *flags: object, lines: int = 1) -> str:
    """Return what a refusal says, after checking its form and that nothing was written."""
    before = sorted(path.name for path in home.iterdir())
    code, out, err = merge(home, document, *flags)
    assert (code, out) == (2, ""), err
    assert len(err.splitlines()) == lines, err
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert sorted(path.name for path in home.iterdir() if path.name != "recipe.yaml") == [
        name for name in before if name != "recipe.yaml"
    ]
    return err


@pytest.mark.parametrize("case", [c for c in CASES if c.name.startswith("error_")], ids=lambda case: case.name)
def test_what_the_reference_refuses_is_refused_before_a_weight_is_read(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merge.checkpoint.Checkpoint.tensor", lambda *_: pytest.fail("a weight was read"))
    models = SHARED / "golden" / "models"
    code, out, err = run(case / "recipe.yaml", tmp_path / "out", "--compat", "mergekit", "--models-root", models)
    assert (code, out) == (2, "")
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert list(tmp_path.iterdir()) == []


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
        (("--compat", "axolotl"), "--compat: must be 'mergekit'"),
    ],
)
def test_flags_with_wrong_values_are_refused(home: Path, flags: tuple[str, ...], words: str) -> None:
    assert words in refused(home, LINEAR, *flags)


def test_pickled_checkpoints_are_read_only_when_allowed_and_only_as_tensors(home: Path) -> None:
    folder = home / "models" / "a"
    tensors = load_file(folder / "model.safetensors")
    assert merge(home, LINEAR)[0] == 0
    wanted = load_file(home / "out" / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "--allow-pickle" in refused(home, LINEAR, "--force")
    assert merge(home, LINEAR, "--allow-pickle", "--force")[0] == 0
    found = load_file(home / "out" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    torch.save({"weights": Path("/")}, folder / "pytorch_model.bin")
    assert "must hold tensors only" in refused(home, LINEAR, "--allow-pickle", "--force")


@pytest.mark.parametrize("damage", ["cut", "header", "hole"])
def test_a_broken_file_of_weights_is_named(home: Path, damage: str) -> None:
    file = home / "models" / "a" / "model.safetensors"
    data = bytearray(file.read_bytes())
    if damage == "cut":
        data = data[:-5]
    elif damage == "header":
        data[8:20] = b"x" * 12
    else:
        data[:8] = (2**60).to_bytes(8, "little")
    file.write_bytes(data)
    said = refused(home, LINEAR)
    assert f"{file}: " in said
    assert "fetch it again" in said


def test_a_missing_shard_is_named(home: Path) -> None:
    assert merge(home, LINEAR, "--out-shard-size", "4K")[0] == 0
    shutil.move(home / "out", home / "models" / "sharded")
    gone = sorted((home / "models" / "sharded").glob("model-*"))[1]
    gone.unlink()
    document = {**LINEAR, "models": [{"model": "sharded", "parameters": {"weight": 1}}]}
    assert gone.name in refused(home, document)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_parent_that_is_not_finite_is_named_with_the_tensor_and_the_flag(home: Path, value: float) -> None:
    tensors = tensors_of(3)
    tensors["model.layers.1.mlp.down_proj.weight"][2, 3] = value
    write_model(home / "models" / "sick", tensors)
    document = {**LINEAR, "models": [{"model": name, "parameters": {"weight": 1}} for name in ("a", "sick")]}
    said = refused(home, document)
    assert "sick: model.layers.1.mlp.down_proj.weight: must be finite" in said
    assert "--allow-nan" in said
    assert merge(home, document, "--allow-nan")[0] == 0


def test_parents_of_another_architecture_vocabulary_or_depth_are_refused(home: Path) -> None:
    def document(name: str) -> dict[str, Any]:
        return {**LINEAR, "models": [{"model": model, "parameters": {"weight": 1}} for model in ("a", name)]}

    write_model(home / "models" / "other", tensors_of(4), architectures=["OtherForCausalLM"])
    words = tensors_of(5)
    words["model.embed_tokens.weight"] = torch.ones(44, 16)
    write_model(home / "models" / "wordy", words, vocab_size=44)
    short = {name: tensor for name, tensor in tensors_of(6).items() if "layers.1" not in name}
    write_model(home / "models" / "short", short, num_hidden_layers=1)
    assert "must have one architecture" in refused(home, document("other"))
    assert "tokenizer_source" in refused(home, document("wordy"))
    assert "must have the same number of layers, got a 2, short 1; use slices" in refused(home, document("short"))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            {"merge_method": "passthrough", "slices": [{"sources": [{"model": "a", "layer_range": [1, 4]}]}]},
            "slices[0].sources[0].layer_range: must end at 2 at most",
        ),
        ({**TIES, "parameters": {"lambda": []}}, "parameters.lambda: must be a list of numbers"),
        ({**TIES, "parameters": {"density": 0}}, "recipe.yaml: parameters.density: must be above 0"),
        ({**TIES, "parameters": {"density": [0.5, 0.0]}}, "parameters.density[1]: must be above 0"),
        ({**TIES, "parameters": {"density": 1.5}}, "parameters.density: must be"),
        (
            {**LINEAR, "models": [{"model": m, "parameters": {"weight": w}} for m, w in (("a", 1), ("b", -1.5))]},
            "weight: must not sum to less than zero",
        ),
        ({**LINEAR, "models": []}, "models"),
        ({**LINEAR, "models": [{"model": "nowhere", "parameters": {"weight": 1}}]}, "nowhere"),
        ({**LINEAR, "models": [{"model": "models/a/config.json", "parameters": {"weight": 1}}]}, "config.json"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(home: Path, document: dict[str, Any], words: str) -> None:
    said = refused(home, document)
    assert words in said
    assert "recipe.yaml" in said or "no such folder" in said or "must be a folder" in said


def test_stages_that_need_each_other_are_refused_in_one_line(home: Path) -> None:
    one = {**LINEAR, "models": [{"model": "two", "parameters": {"weight": 1}}], "name": "one"}
    two = {**LINEAR, "models": [{"model": "one", "parameters": {"weight": 1}}], "name": "two"}
    code, _, err = run(recipe(home, one, two), home / "out", "--models-root", home / "models")
    assert code == 2
    assert "documents must not need each other, got a circle among ['one', 'two']" in err
    assert len(err.splitlines()) == 1


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


def test_a_model_that_is_a_file_is_refused(home: Path) -> None:
    (home / "models" / "c").write_text("")
    document = {**LINEAR, "models": [{"model": str(home / "models" / "c"), "parameters": {"weight": 1}}]}
    assert "must be a folder, got a file" in refused(home, document)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_links_that_leave_the_model_folder_are_refused(home: Path, name: str) -> None:
    secret = home / "secret"
    secret.mkdir()
    folder = home / "models" / "a"
    if (folder / name).exists():
        shutil.move(folder / name, secret / name)
    else:
        (secret / name).write_text("{}")
    (folder / name).symlink_to(secret / name)
    said = refused(home, {**LINEAR, "base_model": "a"})
    assert f"{folder / name}: must not lead out of the model's folder" in said


def test_links_of_the_hubs_cache_are_followed(home: Path) -> None:
    folder = home / "models" / "a"
    snapshot = home / "hub" / "models--org--a" / "snapshots" / "0"
    blobs = home / "hub" / "models--org--a" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    document = {**LINEAR, "models": [{"model": str(snapshot), "parameters": {"weight": 1}}]}
    assert merge(home, document)[0] == 0


def test_a_weight_map_that_leaves_the_folder_is_refused(home: Path) -> None:
    folder = home / "models" / "a"
    names = load_file(folder / "model.safetensors")
    index = {"weight_map": dict.fromkeys(names, "../b/model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model.safetensors.index.json" in refused(home, LINEAR)


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
        if process.returncode != 0:
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


@pytest.mark.parametrize("name", ["../out", "/srv", "a/../../b", "..\\b", "~/b", ""])
def test_a_stage_cannot_be_written_elsewhere(home: Path, name: str) -> None:
    first = LINEAR | {"name": name}
    second = {"merge_method": "passthrough", "models": [{"model": "a"}]}
    code, _, err = run(recipe(home, first, second), home / "out", "--models-root", home / "models")
    assert code == 2
    assert "name: must be" in err
    assert sorted(path.name for path in home.iterdir()) == ["models", "recipe.yaml"]


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
