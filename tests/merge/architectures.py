"""Tiny random models of many architectures, three layers each, made by transformers, never fetched."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.tiny import make_tokenizer

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {},
    "qwen2": {
        "tie_word_embeddings": True,
        "use_sliding_window": True,
        "sliding_window": 8,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "qwen3": {"head_dim": 8},
    "phi": {"num_key_value_heads": 2},
    "phi3": {},
    "gemma2": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "gpt_neox": {},
    "mixtral": {"num_local_experts": 3},
    "qwen2_moe": {"moe_intermediate_size": 12, "shared_expert_intermediate_size": 16, "num_experts": 3},
    "qwen3_moe": {"moe_intermediate_size": 12, "num_experts": 3, "head_dim": 8},
}
SHARED = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 2,
}


def write_parents(root: Path, kind: str) -> Path:
    """Write ``base``, ``a`` and ``b`` of an architecture, with a tokenizer of one token per byte."""
    tokenizer = make_tokenizer()
    special = {f"{name}_token_id": tokenizer.eos_token_id for name in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **special, **{**SHARED, **ARCHITECTURES[kind]})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    for name in ("base", "a", "b"):
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return root
