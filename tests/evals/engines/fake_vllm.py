"""A stand-in for vLLM with its trap: it caches by prompt, and keeps the cache when weights change."""

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch


class SamplingParams:
    """Holds what it was given."""

    def __init__(self, **settings: Any) -> None:
        self.max_tokens: int = settings.get("max_tokens", 16)
        self.stop: list[str] = settings.get("stop") or []


class Inside:
    """The model inside the engine: dummy weights until real ones are loaded."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(99)
        self.net = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()

    def load_weights(self, weights: Any) -> set[str]:
        """Copy weights in by name."""
        own = dict(self.net.named_parameters())
        loaded = set()
        for name, tensor in weights:
            own[name].data.copy_(tensor)
            loaded.add(name)
        return loaded


class LLM:
    """Generates and scores; everything it has once computed for a prompt stays until the cache is reset."""

    busy = False

    def __init__(self, model: str, **settings: Any) -> None:
        from transformers import AutoTokenizer

        self.settings = settings
        self.inside = Inside(model)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.resets = 0
        self._cache: dict[tuple[int, ...], torch.Tensor] = {}
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=512))

    def apply_model(self, function: Any) -> list[Any]:
        """Run a function on the model inside; the cache stays, as vLLM's does."""
        return [function(self.inside)]

    def reset_prefix_cache(self) -> bool:
        """Forget what was computed; refused while requests run."""
        if self.busy:
            return False
        self._cache.clear()
        self.resets += 1
        return True

    def _logprobs(self, tokens: tuple[int, ...]) -> torch.Tensor:
        if tokens not in self._cache:
            with torch.no_grad():
                self._cache[tokens] = self.inside.net(torch.tensor([tokens])).logits[0].log_softmax(-1)
        return self._cache[tokens]

    def generate(self, prompts: list[dict[str, Any]], sampling_params: list[SamplingParams], **_: Any) -> list[Any]:
        """Return one output per prompt."""
        pairs = zip(prompts, sampling_params, strict=True)
        return [self._output(tuple(prompt["prompt_token_ids"]), settings) for prompt, settings in pairs]

    def _output(self, tokens: tuple[int, ...], settings: SamplingParams) -> Any:
        table = self._logprobs(tokens)
        told: list[dict[int, float] | None] = [None]
        for row, token in zip(table, tokens[1:], strict=False):
            best = int(row.argmax())
            told.append({token: float(row[token]), best: float(row[best])})
        written: tuple[int, ...] = ()
        while len(written) < settings.max_tokens:
            written += (int(self._logprobs(tokens + written)[-1].argmax()),)
            text = self.tokenizer.decode(written)
            if any(stop in text for stop in settings.stop):
                break
        text = self.tokenizer.decode(written)
        cut = min([text.index(stop) for stop in settings.stop if stop in text], default=len(text))
        return SimpleNamespace(prompt_logprobs=told, outputs=[SimpleNamespace(text=text[:cut])])


def install(monkeypatch: Any, folder: Path) -> None:
    """Make ``import vllm`` give this module's parts, for one test."""
    from transformers import AutoTokenizer

    dist = folder / "vllm-0.11.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.11.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    parts: dict[str, dict[str, Any]] = {
        "vllm": {"LLM": LLM, "SamplingParams": SamplingParams, "TokensPrompt": dict},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": object},
        "vllm.renderers": {},
        "vllm.renderers.hf": {"resolve_chat_template": lambda **_: None},
        "vllm.tokenizers": {"get_tokenizer": lambda name, **_: AutoTokenizer.from_pretrained(name)},
    }
    for name, contents in parts.items():
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
