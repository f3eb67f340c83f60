"""The demo's adapters can be made again: the right texts, loss on answers alone, a folder that peft reads."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.demo.train_adapters import (
    IGNORED,
    PLANS,
    Example,
    TrainingPlan,
    TrainingText,
    collate,
    encode,
    make_adapter,
    read_texts,
)
from experiments.errors import InputError

END = "<end>"
ARC: dict[str, object] = {
    "question": "Sky?",
    "choices": {"text": ["blue", "red"], "label": ["A", "B"]},
    "answerKey": "A",
}
MMLU: dict[str, object] = {
    "question": " Which? ",
    "subject": "world_history",
    "choices": ["w", "x", "y", "z"],
    "answer": 2,
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder with a row or two of each kind."""
    rows: dict[str, list[dict[str, object]]] = {
        "gsm8k/train": [{"question": "1 + 1?", "answer": "It is\u2028two.\n#### 2"}] * 3,
        "arc_challenge/train": [ARC],
        "arc_easy/train": [ARC],
        "mmlu/world_history/dev": [MMLU],
    }
    for name, documents in rows.items():
        path = tmp_path / "data" / f"{name}.jsonl"
        path.parent.mkdir(parents=True)
        text = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "data"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random two-layer model whose tokens are characters."""
    folder = tmp_path_factory.mktemp("models") / "org" / "tiny"
    characters = [END, *(chr(code) for code in range(10, 127)), "\u2028"]
    backend = Tokenizer(models.WordLevel({text: index for index, text in enumerate(characters)}, unk_token=END))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(characters), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, eos_token_id=0,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_texts_are_those_of_the_table(data: Path) -> None:
    assert read_texts("math", data)[0] == TrainingText("Question: 1 + 1?\nAnswer:", " It is\u2028two.\n#### 2")
    science = read_texts("science", data)
    assert [text.answer for text in science] == [" blue", " blue", " blue", " C"]
    assert science[-1] == TrainingText(
        "The following are multiple choice questions (with answers) about world history.\n\n"
        "Which?\nA. w\nB. x\nC. y\nD. z\nAnswer:",
        " C",
        ends=False,
    )


def test_only_answers_are_learned() -> None:
    batch = collate([Example((5, 6, 7, 0), 2), Example((8, 9), 1)], padding=0)
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 7, 0], [IGNORED, 9, IGNORED, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_the_rate_warms_up_and_decays_to_nothing() -> None:
    plan = PLANS["math"]
    rates = [plan.rate(step) for step in range(plan.steps)]
    assert rates[0] == pytest.approx(plan.lr / 5)
    assert max(rates) == rates[4] == rates[5] == plan.lr
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(plan.lr / (plan.steps - 5))


@pytest.mark.parametrize("adapter", ["math", "science"])
def test_two_steps_make_an_adapter_that_peft_reads(adapter: str, base: Path, data: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file

    plan = TrainingPlan(lr=1e-2, batch=2, steps=2, longest=200)
    losses = make_adapter(adapter, base=base, data=data, out=tmp_path / "out", plan=plan)
    assert len(losses) == 2
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert len(weights) == 2 * 7 * 2
    assert any(weight.any() for name, weight in weights.items() if "lora_B" in name), "nothing was learned"
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (6, 12, "org/tiny")
    PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), tmp_path / "out")
    again = make_adapter(adapter, base=base, data=data, out=tmp_path / "again", plan=plan)
    assert again == losses


def test_long_texts_are_left_out(base: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    assert encode([TrainingText("ab", " c")], tokenizer, longest=4) == []
    (example,) = encode([TrainingText("ab", " c")], tokenizer, longest=5)
    assert (len(example.tokens), example.start, example.tokens[-1]) == (5, 2, 0)


def test_missing_input_is_named(base: Path, data: Path, tmp_path: Path) -> None:
    plan = TrainingPlan(lr=1e-2, batch=2, steps=1, longest=1)
    with pytest.raises(InputError, match=r"no config\.json"):
        make_adapter("math", base=tmp_path, data=data, out=tmp_path / "out", plan=plan)
    with pytest.raises(InputError, match=r"gsm8k.*--data"):
        make_adapter("math", base=base, data=tmp_path, out=tmp_path / "out", plan=plan)
    with pytest.raises(InputError, match="at most 1 tokens"):
        make_adapter("math", base=base, data=data, out=tmp_path / "out", plan=plan)
