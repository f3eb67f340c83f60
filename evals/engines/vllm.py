"""The vLLM engine: lm-eval's own vLLM model, started once, whose weights are replaced in place for every candidate.

The engine is started with the live model's configuration and no weights. Weights go in through vLLM's
``LLM.apply_model``, which runs a function on the model inside the engine, and ``load_weights``, which takes a
checkpoint's names and fuses what vLLM fuses. vLLM keeps cached prefixes when weights change, so the prefix cache is
reset after every change. The engine runs in this process: nothing is pickled and no copy of the weights is sent.
Source: docs.vllm.ai, "LLM Class" and "Reinforcement Learning from Human Feedback".
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

from lm_eval.api.model import LM

from evals.errors import EngineError, ScoringError
from evals.prompts.chat_template import chat_renderer

INSTALL = "pip install 'mergesearch[vllm]'"


class VllmScorer(LM):  # type: ignore[misc]  # lm-eval is untyped
    """Scores the weights that a live model holds, with a running vLLM engine.

    Args:
        model: A transformers causal language model; where its weights are does not matter.
        tokenizer: Its tokenizer.
        engine_args: More arguments of lm-eval's ``VLLM``, e.g. ``gpu_memory_utilization`` or ``max_length``.

    Raises:
        EngineError: vLLM is not installed.
        ScoringError: It does not start, e.g. for want of a GPU or of memory.
    """

    def __init__(self, model: Any, tokenizer: Any, *, engine_args: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self._folder = TemporaryDirectory(prefix="mergesearch-vllm-")
        self._inner = _start(model, tokenizer, self._folder.name, dict(engine_args or {}))
        self._current = False

    @property
    def tokenizer_name(self) -> str:
        """Name under which lm-eval would cache requests."""
        return str(self._inner.tokenizer_name)

    def weights_changed(self) -> None:
        """Note that the live model holds other weights: the next request loads them and resets the prefix cache."""
        self._current = False

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:  # noqa: FBT001, FBT002 - lm-eval's signature
        """Render messages as a prompt."""
        return chat_renderer(self.tokenizer)(chat_history, add_generation_prompt)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return log-likelihood and greediness of each continuation."""
        self._load()
        return list(self._inner.loglikelihood(list(requests), disable_tqdm=True))

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Return the log-likelihood of each text."""
        self._load()
        return list(self._inner.loglikelihood_rolling(list(requests), disable_tqdm=True))

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return the text that follows each prompt."""
        self._load()
        return list(self._inner.generate_until(list(requests), disable_tqdm=True))

    def _load(self) -> None:
        """Put the live model's weights into the engine, unless it has them.

        Raises:
            ScoringError: The prefix cache could not be reset: answers would be those of other weights.
        """
        if self._current:
            return
        engine = self._inner.model
        engine.apply_model(lambda inside: inside.load_weights(self._weights()))
        if engine.reset_prefix_cache() is False:
            raise ScoringError("vllm: the prefix cache must be reset after new weights, got a refusal; requests run")
        self._current = True

    def _weights(self) -> Iterator[tuple[str, Any]]:
        """Go through the parameters by their checkpoint's names, tied ones once."""
        for name, parameter in self.model.named_parameters():
            yield name, parameter.data


def _start(model: Any, tokenizer: Any, folder: str, engine_args: dict[str, Any]) -> Any:
    if find_spec("vllm") is None:
        raise EngineError(f"--engine vllm: must have vLLM installed, got no module vllm; {INSTALL}")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine in this process: weights are shared
    try:
        from lm_eval.models.vllm_causallms import VLLM
    except ImportError as error:
        raise EngineError(f"--engine vllm: vLLM must import, got: {error}; {INSTALL}") from error
    model.config.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = {
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "load_format": "dummy",
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        **engine_args,
    }
    try:
        return VLLM(pretrained=folder, **settings)
    except (RuntimeError, ValueError, OSError) as error:
        raise ScoringError(f"vllm: the engine did not start: {(str(error).splitlines() or [''])[0]}") from error
