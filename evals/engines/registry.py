"""Engines that answer requests with a model in memory: ours, lm-eval's own to check ours against, and vLLM."""

from typing import Any, Protocol, runtime_checkable

ENGINES = {
    "live": "shares prompt prefixes on the live model",
    "hf": "lm-eval's stock HFLM, for checking",
    "vllm": "a running vLLM engine that takes the live model's weights (optional extra, needs a GPU)",
}


@runtime_checkable
class KeepsWeights(Protocol):
    """An engine that holds a copy of the weights, or anything computed from them, from one call to the next."""

    def weights_changed(self) -> None:
        """Note that the live model holds other weights now."""


def engine_names() -> tuple[str, ...]:
    """Return the names of the engines."""
    return tuple(ENGINES)


def make_engine(name: str, model: Any, tokenizer: Any) -> Any:
    """Return an lm-eval LM on a model in memory; after every change of its weights call `weights_changed`.

    Args:
        name: One of ``engine_names``.
        model: A transformers causal language model.
        tokenizer: Its tokenizer.

    Raises:
        EngineError: The engine is not installed.
        ScoringError: It does not start.
    """
    if name == "live":
        from evals.engines.live.engine import LiveScorer

        return LiveScorer(model, tokenizer)
    if name == "vllm":
        from evals.engines.vllm import VllmScorer

        return VllmScorer(model, tokenizer)
    from evals.engines.common.hflm import stock_scorer

    return stock_scorer(model, tokenizer)


def weights_changed(engine: Any) -> None:
    """Tell an engine that the live model holds other weights; one that keeps nothing between calls needs no word."""
    if isinstance(engine, KeepsWeights):
        engine.weights_changed()
