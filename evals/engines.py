"""Engines that answer requests with a model in memory: ours, and lm-eval's own to check ours against."""

from typing import Any

ENGINES = {"live": "shares prompt prefixes on the live model", "hf": "lm-eval's stock HFLM, for checking"}


def engine_names() -> tuple[str, ...]:
    """Return the names of the engines."""
    return tuple(ENGINES)


def make_engine(name: str, model: Any, tokenizer: Any) -> Any:
    """Return an lm-eval LM on a model in memory.

    Args:
        name: One of ``engine_names``.
        model: A transformers causal language model.
        tokenizer: Its tokenizer.
    """
    if name == "live":
        from evals.scorer import LiveScorer

        return LiveScorer(model, tokenizer)
    from evals.stock import stock_scorer

    return stock_scorer(model, tokenizer)
