"""Turns the four-bit file of the base model into the folder that the original has: weights, config, tokenizer.

What the file has lost, or what loaders make of it otherwise, is put right here: digits are split one by one, the norm's
epsilon is 1e-5 and not the nearest float32, names inside the file do not reach the config.
"""

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerBase

CARRIED = (
    "bos_token_id",
    "eos_token_id",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rope_parameters",
    "vocab_size",
)
"""What is taken over from the file's own description; the rest is Llama's default."""


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a plain safetensors folder.

    Weights are kept exactly: bfloat16 where every value is one, else float32.

    Args:
        gguf: The file.
        folder: An existing, empty folder.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM

    with redirect_stderr(StringIO()):  # progress bars
        loaded = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    weights = loaded.state_dict()
    dtype = torch.bfloat16 if all(_is_bfloat16(weight) for weight in weights.values()) else torch.float32
    with torch.device("meta"):
        model = LlamaForCausalLM(_config(loaded.config))
    model.load_state_dict({name: weight.to(dtype) for name, weight in weights.items()}, assign=True)
    model.tie_weights()
    model.config.dtype = dtype
    ends = {name: getattr(model.config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**ends)
    with redirect_stderr(StringIO()):
        model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder)


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write the tokenizer with the digit splitter that GGUF does not know, and a config of the plain fast class."""
    from tokenizers import pre_tokenizers

    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    added = [token.content for _, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special]
    config = {
        "add_prefix_space": False,
        "additional_special_tokens": added[1:3],
        "bos_token": tokenizer.bos_token,
        "chat_template": tokenizer.chat_template,
        "clean_up_tokenization_spaces": False,
        "eos_token": tokenizer.eos_token,
        "model_max_length": 8192,
        "pad_token": tokenizer.pad_token,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": tokenizer.unk_token,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _config(described: "LlamaConfig") -> "LlamaConfig":
    from transformers import LlamaConfig

    carried = {name: getattr(described, name) for name in CARRIED}
    return LlamaConfig(**carried, rms_norm_eps=1e-5, tie_word_embeddings=True)


def _is_bfloat16(weight: torch.Tensor) -> bool:
    return torch.equal(weight.to(torch.bfloat16).to(weight.dtype), weight)
