"""Vocabularies: rows follow tokens, whatever their order; what is missing is filled as documented."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from merge.errors import CompatibilityError, RecipeError
from merge.live_model import load_tokenizer
from merge.merger import Merger
from merge.recipe.schema import Recipe
from tests.merge.parents import tensors_of, write_model

TABLE = "model.embed_tokens.weight"


def write(folder: Path, words: str, seed: int) -> Path:
    """Write a model with one token per word."""
    tensors = tensors_of(seed)
    tensors[TABLE] = torch.arange(len(words) * 16).reshape(-1, 16).float() / 64 + seed
    write_model(folder, tensors, vocab_size=len(words))
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="a"))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "a"}')
    return folder


@pytest.fixture
def words(tmp_path: Path) -> Path:
    write(tmp_path / "one", "abcd", 1)
    write(tmp_path / "two", "adxb", 2)
    return tmp_path


def recipe(**more: object) -> Recipe:
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in ("one", "two")]
    return Recipe.from_mapping({"merge_method": "linear", "base_model": "one", "models": models, **more}, place="r")


def merged(words: Path, out: Path, **more: object) -> tuple[dict[str, int], torch.Tensor]:
    merger = Merger([words])
    folder = merger.merge_to_folder(recipe(**more), out)
    return load_tokenizer(merger, recipe(**more)).get_vocab(), load_file(folder / "model.safetensors")[TABLE]


def test_a_union_averages_rows_of_the_same_token(words: Path, tmp_path: Path) -> None:
    one, two = (load_file(words / name / "model.safetensors")[TABLE] for name in ("one", "two"))
    ids, table = merged(words, tmp_path / "out", tokenizer_source="union")
    assert ids == {"a": 0, "b": 1, "c": 2, "d": 3, "x": 4}
    torch.testing.assert_close(table[ids["d"]], (one[3] + two[1]) / 2)
    torch.testing.assert_close(table[ids["c"]], one[2])
    torch.testing.assert_close(table[ids["x"]], two[2])


def test_the_base_vocabulary_drops_what_only_others_have(words: Path, tmp_path: Path) -> None:
    ids, table = merged(words, tmp_path / "out", tokenizer_source="base")
    assert sorted(ids) == ["a", "b", "c", "d"]
    assert len(table) == 4


def test_single_tokens_can_be_forced_zeroed_copied_and_padded(words: Path, tmp_path: Path) -> None:
    one, two = (load_file(words / name / "model.safetensors")[TABLE] for name in ("one", "two"))
    tokens = {
        "b": {"source": "two", "force": True},
        "zero": {"source": {"kind": "zero"}},
        "copy": {"source": {"kind": "model_token", "model": "two", "token": "x"}},
        "mean": {"source": "base"},
    }
    block = {"source": "union", "tokens": tokens, "pad_to_multiple_of": 5}
    ids, table = merged(words, tmp_path / "out", tokenizer=block)
    assert len(table) == 10
    torch.testing.assert_close(table[ids["b"]], two[3])
    torch.testing.assert_close(table[ids["zero"]], torch.zeros(16))
    torch.testing.assert_close(table[ids["copy"]], two[2])
    torch.testing.assert_close(table[ids["mean"]], one.mean(dim=0))
    torch.testing.assert_close(table[8:], table[:8].mean(dim=0).expand(2, 16))


def test_a_new_token_without_a_source_is_refused(words: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no model has a row for 'new'"):
        merged(words, tmp_path / "out", tokenizer={"source": "union", "tokens": {"new": {}}})


def test_different_vocabularies_without_a_block_name_the_remedy(words: Path) -> None:
    tensors = load_file(words / "two" / "model.safetensors")
    tensors[TABLE] = tensors[TABLE][:3].clone()
    save_file(tensors, words / "two" / "model.safetensors")
    with pytest.raises(CompatibilityError, match="tokenizer_source"):
        Merger([words]).check(recipe())
    Merger([words], allow_crimes=True).check(recipe())


@pytest.mark.parametrize("name", ["unoin", "three"])
def test_an_unknown_tokenizer_source_is_refused(words: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="union, base or a model"):
        Merger([words]).check(recipe(tokenizer_source=name))


def test_chat_templates_are_known_by_name(words: Path, tmp_path: Path) -> None:
    folder = Merger([words]).merge_to_folder(recipe(chat_template="chatml"), tmp_path / "out")
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
    with pytest.raises(RecipeError, match="did you mean 'chatml'"):
        Merger([words]).check(recipe(chat_template="chatlm"))


def test_the_chat_template_of_most_parents_is_taken(words: Path, tmp_path: Path) -> None:
    write(words / "three", "ab", 3)
    for name, text in (("one", "{{ 1 }}"), ("two", "{{ 2 }}"), ("three", "{{ 2 }}")):
        (words / name / "chat_template.jinja").write_text(text)
    models = [{"model": name, "parameters": {"weight": 1.0}} for name in ("one", "two", "three")]
    block = {"merge_method": "linear", "models": models, "tokenizer_source": "one", "chat_template": "auto"}
    folder = Merger([words]).merge_to_folder(Recipe.from_mapping(block, place="r"), tmp_path / "out")
    assert (folder / "chat_template.jinja").read_text() == "{{ 2 }}"


def test_without_a_base_a_token_that_a_model_lacks_is_the_mean_of_those_that_have_it(
    words: Path, tmp_path: Path
) -> None:
    write(words / "three", "ab", 3)
    weights = {"one": 0.0, "two": 0.0, "three": 1.0}
    models = [{"model": name, "parameters": {"weight": weight}} for name, weight in weights.items()]
    block = {"merge_method": "linear", "models": models, "tokenizer": {"source": "one"}}
    document = Recipe.from_mapping(block, place="r")
    one, two = (load_file(words / name / "model.safetensors")[TABLE] for name in ("one", "two"))
    folder = Merger([words]).merge_to_folder(document, tmp_path / "out")
    torch.testing.assert_close(load_file(folder / "model.safetensors")[TABLE][3], (one[3] + two[1]) / 2)


@pytest.mark.parametrize("mode", ["default", "compat"])
def test_the_reference_takes_rows_only_from_the_models_of_a_slice(words: Path, tmp_path: Path, mode: str) -> None:
    for name in ("one", "two"):
        tensors = load_file(words / name / "model.safetensors")
        tensors["lm_head.weight"] = tensors[TABLE] + 1
        save_file(tensors, words / name / "model.safetensors")
    slices = [{"sources": [{"model": name, "layer_range": [0, 1]}]} for name in ("one", "two")]
    block = {"merge_method": "passthrough", "slices": slices, "tokenizer_source": "union"}
    merger = Merger([words], compat=mode == "compat")
    recipe = Recipe.from_mapping(block, place="r")
    folder = merger.merge_to_folder(recipe, tmp_path / "out")
    ids = load_tokenizer(merger, recipe).get_vocab()
    row = load_file(folder / "model.safetensors")["lm_head.weight"][ids["c"]]
    wanted = load_file(words / "one" / "model.safetensors")["lm_head.weight"][2]
    assert torch.equal(row, torch.zeros(16) if mode == "compat" else wanted)
