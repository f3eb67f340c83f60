"""Tiny parents: a two-layer llama in float32, made, never fetched."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from merge.recipe.schema import Recipe

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 40,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "dtype": "float32",
    "rms_norm_eps": 1e-6,
}


def tensors_of(seed: int, scale: float = 0.1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (40, 16), "model.norm.weight": (16,)}
    for layer in range(2):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (16, 16) for name in "qkvo"}
        shapes |= {f"{at}.mlp.{name}_proj.weight": (24, 16) for name in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj.weight": (16, 24)}
        shapes |= {f"{at}.{name}_layernorm.weight": (16,) for name in ("input", "post_attention")}
    return {name: torch.randn(shape, generator=generator) * scale for name, shape in shapes.items()}


def write_model(folder: Path, tensors: dict[str, Tensor], **config: object) -> Path:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder


def write_family(root: Path) -> Path:
    """Write ``base``, ``a``, ``b`` and the adapter ``lora``."""
    base = tensors_of(0)
    write_model(root / "base", base)
    for seed, name in ((1, "a"), (2, "b")):
        change = tensors_of(seed, 0.02)
        write_model(root / name, {key: value + change[key] for key, value in base.items()})
    write_adapter(root / "lora", rank=3, alpha=6)
    return root


def write_adapter(folder: Path, *, rank: int, alpha: float, **config: object) -> Path:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(7)
    at = "base_model.model.model.layers.1.self_attn.q_proj"
    pair = {
        f"{at}.lora_A.weight": torch.randn(rank, 16, generator=generator),
        f"{at}.lora_B.weight": torch.randn(16, rank, generator=generator),
    }
    save_file(pair, folder / "adapter_model.safetensors")
    document = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["q_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(document))
    return folder


def recipe_of(
    method: str,
    *,
    base: str | None = "base",
    models: dict[str, dict[str, object]] | None = None,
    **more: object,
) -> Recipe:
    """Return a recipe of the tiny parents; `models` are names and parameters."""
    listed = {"a": {}, "b": {}} if models is None else models
    document: dict[str, object] = {
        "merge_method": method,
        "models": [{"model": name, **({"parameters": own} if own else {})} for name, own in listed.items()],
        **({"base_model": base} if base else {}),
        **more,
    }
    return Recipe.from_mapping(document, place="recipe.yaml")
