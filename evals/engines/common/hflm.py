"""What lm-eval's own HFLM does with a model: the scorer itself, its longest input, when it is plainly greedy."""

from collections.abc import Mapping
from typing import Any


def stock_scorer(model: Any, tokenizer: Any, *, batch_size: int = 4, max_length: int | None = None) -> Any:
    """Return lm-eval's own scorer of a live model."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=max_length)


def model_length(model: Any, tokenizer: Any) -> int:
    """Return the longest input as lm-eval does: from the model's config, the tokenizer, else 2,048."""
    config = getattr(model.config, "text_config", None) or model.config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        if getattr(config, name, None) is not None:
            return int(getattr(config, name))
    length = getattr(tokenizer, "model_max_length", None)
    return int(length) if length is not None and length < 10**12 else 2048


def is_greedy(model: Any, settings: Mapping[str, Any]) -> bool:
    """Tell whether a generation is plainly greedy: no sampling, beams or penalties."""
    config = getattr(model, "generation_config", None)
    changed = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "num_beams": 1, "encoder_no_repeat_ngram_size": 0}
    if any((getattr(config, name, None) or usual) != usual for name, usual in changed.items()):
        return False
    plain = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}
    return not settings.get("do_sample") and not set(settings) - plain
