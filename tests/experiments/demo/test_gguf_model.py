"""A GGUF file becomes the folder that the original has: same weights, same tokens, a clean config."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from experiments.demo.base_model import BASE_MODEL
from experiments.demo.gguf_model import convert
from merge.user_cache import user_cache

HEADS, KEY_HEADS, HIDDEN, INNER = 4, 2, 16, 32
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
TENSORS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "model.layers.0.input_layernorm.weight": "blk.0.attn_norm.weight",
    "model.layers.0.post_attention_layernorm.weight": "blk.0.ffn_norm.weight",
    "model.layers.0.self_attn.q_proj.weight": "blk.0.attn_q.weight",
    "model.layers.0.self_attn.k_proj.weight": "blk.0.attn_k.weight",
    "model.layers.0.self_attn.v_proj.weight": "blk.0.attn_v.weight",
    "model.layers.0.self_attn.o_proj.weight": "blk.0.attn_output.weight",
    "model.layers.0.mlp.gate_proj.weight": "blk.0.ffn_gate.weight",
    "model.layers.0.mlp.up_proj.weight": "blk.0.ffn_up.weight",
    "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight",
}


def byte_letters() -> list[str]:
    """Return the letter that byte-level BPE writes for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Return a query or key projection in the order of rows that GGUF has for Llama."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, weights: dict[str, torch.Tensor], vocabulary: list[str]) -> None:
    writer: Any = gguf.GGUFWriter(path, "llama")
    writer.add_name("A name that must not reach the config")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e5)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3, 3, 3] + [1] * (len(vocabulary) - 3))
    writer.add_token_merges(["1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for ours, theirs in TENSORS.items():
        weight = weights[ours]
        if "q_proj" in ours or "k_proj" in ours:
            weight = interleaved(weight, HEADS if "q_proj" in ours else KEY_HEADS)
        writer.add_tensor(theirs, weight.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_tokens_and_config_are_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    vocabulary = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_letters(), "12"]
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=1,
        num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(dtype).float()
    weights = {name: weight for name, weight in model.state_dict().items() if name in TENSORS}
    write_gguf(tmp_path / "tiny.gguf", weights, vocabulary)
    out = tmp_path / "out"
    out.mkdir()
    convert(tmp_path / "tiny.gguf", out)

    written = load_file(out / "model.safetensors")
    assert written.keys() == weights.keys()
    assert all(written[name].dtype == dtype and torch.equal(written[name].float(), weights[name]) for name in weights)
    document = json.loads((out / "config.json").read_text())
    assert document["rms_norm_eps"] == 1e-5
    assert document["rope_parameters"]["rope_theta"] == 1e5
    assert document["dtype"] == str(dtype).removeprefix("torch.")
    assert (document["bos_token_id"], document["eos_token_id"], document["pad_token_id"]) == (1, 2, 2)
    assert not any("name" in key for key in document)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.tokenize("a12<|im_end|>") == ["a", "1", "2", "<|im_end|>"]
    assert tokenizer.decode(tokenizer("né 12\n")["input_ids"]) == "né 12\n"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.chat_template == TEMPLATE


@pytest.mark.model
def test_the_real_model_answers() -> None:
    folder = user_cache() / "models" / BASE_MODEL
    if not folder.is_dir():
        pytest.skip(f"the demo's model is not in the cache: {folder} ('mergesearch demo' puts it there)")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("48/2 = 24")[-2:] == ["2", "4"]
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=10, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])
