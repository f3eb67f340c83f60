"""`mergesearch merge` with something wrong: one clear line, exit code 2, and nothing written."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.experiments.release.merging import CASES, LINEAR, TIES, merge, recipe, refused, run
from tests.merge.parents import tensors_of, write_model


@pytest.mark.parametrize("case", [c for c in CASES if c.name.startswith("error_")], ids=lambda case: case.name)
def test_what_the_reference_refuses_is_refused_before_a_weight_is_read(
    case: Path, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merge.checkpoint.reader.Checkpoint.tensor", lambda *_: pytest.fail("a weight was read"))
    models = golden / "models"
    code, out, err = run(case / "recipe.yaml", tmp_path / "out", "--compat", "mergekit", "--models-root", models)
    assert (code, out) == (2, "")
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert list(tmp_path.iterdir()) == []


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
        ({"merge_method": "linear", "slices": []}, "recipe.yaml: slices: must hold at least one slice"),
        ({"merge_method": "linear", "modules": {}}, "recipe.yaml: modules: must hold at least one module"),
        (
            {"merge_method": "passthrough", "slices": [{"sources": [{"model": "a", "layer_range": [0, 1.5]}]}]},
            "slices[0].sources[0].layer_range[1]: must be a valid integer, got 1.5",
        ),
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


@pytest.mark.parametrize("name", ["../out", "/srv", "a/../../b", "..\\b", "~/b", ""])
def test_a_stage_cannot_be_written_elsewhere(home: Path, name: str) -> None:
    first = LINEAR | {"name": name}
    second = {"merge_method": "passthrough", "models": [{"model": "a"}]}
    code, _, err = run(recipe(home, first, second), home / "out", "--models-root", home / "models")
    assert code == 2
    assert "name: must be" in err
    assert sorted(path.name for path in home.iterdir()) == ["models", "recipe.yaml"]


def test_a_model_of_a_later_stage_that_is_not_there_is_told_before_anything_is_merged(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merge.checkpoint.reader.Checkpoint.tensor", lambda *_: pytest.fail("a weight was read"))
    second = {"merge_method": "passthrough", "models": [{"model": "nowhere"}], "base_model": "first"}
    code, _, err = run(recipe(home, LINEAR | {"name": "first"}, second), home / "out", "--models-root", home / "models")
    assert code == 2
    assert "recipe.yaml: document 2: nowhere: no such folder" in err


def test_a_stage_with_the_name_of_a_folder_here_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    second = {"merge_method": "passthrough", "models": [{"model": "models"}]}
    code, _, err = run(recipe(home, LINEAR | {"name": "models"}, second), "out", "--models-root", "models")
    assert code == 2
    assert "name: must not be that of a file or folder here, got 'models'; rename the stage" in err


@pytest.mark.parametrize("out", ["models/a", "models"])
def test_a_model_of_the_recipe_is_not_replaced_by_its_result(home: Path, out: str) -> None:
    code, _, err = run(recipe(home, LINEAR), home / out, "--models-root", home / "models", "--force")
    assert code == 2
    assert "must not hold a model of the recipe, got a" in err
    assert (home / "models" / "a" / "model.safetensors").is_file()
