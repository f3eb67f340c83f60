"""A tiny llama with a tokenizer of its own, lm-eval's HFLM on it, and benchmark files in the hub's schema."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import pytest
import torch

WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "river",
    "stone",
    "light",
    "runs",
    "blue",
    "Question:",
    "Answer:",
    "1",
    "2",
    "####",
    "why",
)
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% if not loop.last or add_generation_prompt %}<eos>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Return a byte-level tokenizer trained on a few words, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<bos>", "<eos>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" ".join(WORDS)] * 10, trainer)
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=512, **special)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def make_model(tokenizer: Any) -> Callable[..., Any]:
    """Return a maker of tiny llamas."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def make(seed: int = 0, length: int = 512) -> Any:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=length,
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
        )
        return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[..., Any]) -> Any:
    """Return one tiny llama; tests leave its weights as they are."""
    return make_model()


@pytest.fixture(scope="session")
def hflm(model: Any, tokenizer: Any) -> Any:
    """Return lm-eval's own scorer of the tiny llama."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON Lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def arc_rows(split: str, count: int) -> list[dict[str, Any]]:
    """Return questions in ARC's schema."""
    return [
        {
            "id": f"{split}-{i}",
            "question": f"{split} {i}: the blue {WORDS[i % 9]}?",
            "choices": {
                "text": [f"{WORDS[(i + j) % 9]} {i + j}" for j in range(3 + i % 2)],
                "label": list("ABCD")[: 3 + i % 2],
            },
            "answerKey": "ABC"[i % 3],
        }
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as ``--data`` expects it: arc_easy, gsm8k and two subjects of mmlu."""
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 30), ("validation", 12), ("test", 10)):
        write_rows(folder / "arc_easy" / f"{split}.jsonl", arc_rows(split, count))
    for split, count in (("train", 20), ("test", 8)):
        solved = [{"question": f"{split} {i} runs?", "answer": f"the dog runs {i}\n#### {i}"} for i in range(count)]
        write_rows(folder / "gsm8k" / f"{split}.jsonl", solved)
    for subject in ("anatomy", "virology"):
        for split, count in (("dev", 5), ("test", 6)):
            rows: list[dict[str, Any]] = [
                {
                    "question": f"{subject} {split} {i}",
                    "subject": subject,
                    "choices": ["a", "b", "c", "d"],
                    "answer": i % 4,
                }
                for i in range(count)
            ]
            write_rows(folder / "mmlu" / subject / f"{split}.jsonl", rows)
    return folder
