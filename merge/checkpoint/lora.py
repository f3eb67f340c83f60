"""LoRA adapters, folded into their base tensor by tensor: W + (alpha / r) B A, summed in float32."""

import math
import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from merge.checkpoint.safetensors_file import Header, read_headers
from merge.checkpoint.symlinks import check_links
from merge.documents import DocumentError, read_json, read_text
from merge.errors import CheckpointError, did_you_mean

_REFUSED = {
    "use_dora": "DoRA",
    "lora_bias": "biases in the adapter",
    "layer_replication": "replicated layers",
    "target_parameters": "targeted parameters",
    "trainable_token_indices": "trained token rows",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "BD-LoRA",
    "alora_invocation_tokens": "activated LoRA",
    "arrow_config": "Arrow routing",
}
_PREFIX = "base_model.model."
_LARGEST_ALPHA = 1e6
_LONGEST = 200
_REPEATS = re.compile(r"[*+{]")
_REPEATED = re.compile(r"\)[*+{?]|\\\d|\(\?[^:]")
"""A group that is repeated, a group that is referred to, and groups that look around: what can take for ever."""


class Adapter:
    """A LoRA adapter of PEFT's format.

    Args:
        folder: Holds ``adapter_config.json`` and ``adapter_model.safetensors``.

    Raises:
        CheckpointError: A file is missing or broken, or the adapter needs what is not supported.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        check_links(folder)
        self.config = _config(folder)
        self.file = folder / "adapter_model.safetensors"
        if not self.file.is_file():
            raise CheckpointError(f"{folder}: must hold adapter_model.safetensors; save the adapter as safetensors")
        self.headers = read_headers(self.file)
        self._pairs: dict[str, tuple[str, str]] = {}
        self._replaced: dict[str, str] = {}
        for name in self.headers:
            self._sort(name)

    @property
    def targets(self) -> frozenset[str]:
        """Names of the tensors of the base that the adapter changes."""
        return frozenset(self._pairs) | frozenset(self._replaced)

    @property
    def draws(self) -> int:
        """Random numbers that PEFT takes from torch's generator when it loads the adapter.

        torch fills both matrices of a layer, then PEFT the first again, before what is stored replaces them.
        """
        sizes = [(prod(self.headers[down].shape), prod(self.headers[up].shape)) for down, up in self._pairs.values()]
        return sum(2 * down + up for down, up in sizes)

    def check(self, base: Mapping[str, Header], place: str) -> None:
        """Compare with the headers of the base.

        Raises:
            CheckpointError: A target is not there, or a shape does not fit; every one is listed.
        """
        faults = [f"{name}: no such tensor in the base{did_you_mean(name, base)}" for name in self.targets - set(base)]
        for name, (down, up) in self._pairs.items():
            if name not in base:
                continue
            if any(len(self.headers[part].shape) != 2 or 0 in self.headers[part].shape for part in (down, up)):
                faults.append(f"{name}: lora_A and lora_B must be matrices that are not empty")
                continue
            made = (self.headers[up].shape[0], self.headers[down].shape[1])
            made = made[::-1] if self._transposed else made
            if made != base[name].shape or self.headers[up].shape[1] != self.headers[down].shape[0]:
                faults.append(f"{name}: the base is {list(base[name].shape)}, the adapter makes {list(made)}")
        faults += [
            f"{name}: the base is {list(base[name].shape)}, the adapter holds {list(self.headers[saved].shape)}"
            for name, saved in self._replaced.items()
            if name in base and self.headers[saved].shape != base[name].shape
        ]
        if faults:
            raise CheckpointError("\n".join(f"{place}: {fault}" for fault in sorted(faults)))

    def fold(self, name: str, weight: Tensor) -> Tensor:
        """Return the base's tensor with the adapter folded in, in the base's dtype."""
        if name in self._replaced:
            return self._read(self._replaced[name]).to(weight.dtype)
        down, up = (self._read(part).float() for part in self._pairs[name])
        change = up @ down
        change = (change.T if self._transposed else change) * self._scale(name, down.shape[0])
        return (weight.float() + change).to(weight.dtype)

    def _read(self, name: str) -> Tensor:
        with safe_open(self.file, framework="pt") as tensors:
            tensor = tensors.get_tensor(name)
            assert isinstance(tensor, Tensor)
            return tensor

    @property
    def _transposed(self) -> bool:
        return bool(self.config.get("fan_in_fan_out"))

    def _scale(self, name: str, rank: int) -> float:
        alpha: Any = self.config.get("lora_alpha", 8)
        patterns: Any = self.config.get("alpha_pattern") or {}
        module = name.removesuffix(".weight")
        for pattern, value in patterns.items():
            if re.match(rf"(?:.*\.)?(?:{pattern})$", module):
                alpha = value
                break
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def _sort(self, name: str) -> None:
        short = name.removeprefix(_PREFIX)
        if short.endswith(".lora_A.weight"):
            other = name.replace(".lora_A.weight", ".lora_B.weight")
            if other not in self.headers:
                raise CheckpointError(f"{self.folder}: {name}: must come with {other}")
            self._pairs[short.replace(".lora_A.weight", ".weight")] = (name, other)
        elif ".modules_to_save." in short or "lora_" not in short:
            self._replaced[re.sub(r"\.modules_to_save(\.default)?\.", ".", short)] = name
        elif not short.endswith(".lora_B.weight"):
            raise CheckpointError(
                f"{self.folder}: {name}: must be lora_A or lora_B of a linear layer, got another kind"
            )


def _config(folder: Path) -> dict[str, object]:
    file = folder / "adapter_config.json"
    try:
        config = read_json(read_text(file), str(file))
    except OSError as error:
        raise CheckpointError(f"{file}: must be PEFT's adapter configuration, got {error.strerror}") from None
    except DocumentError as error:
        raise CheckpointError(f"{error}; fetch it again") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise CheckpointError(f"{file}: peft_type must be LORA, got {kind!r}; merge the adapter with PEFT first")
    used = [words for key, words in _REFUSED.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        used.append("trained biases")
    if used:
        raise CheckpointError(f"{file}: must be plain LoRA, got {', '.join(used)}; merge the adapter with PEFT first")
    _check_scale(config, file)
    return config


def _check_scale(config: Mapping[str, object], file: Path) -> None:
    """Check what the scale of the change is made of; patterns are a stranger's, and must be matched at once."""
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, Mapping):
        raise CheckpointError(f"{file}: alpha_pattern: must be a mapping of modules to numbers, got {patterns!r:.60}")
    for key, value in (("lora_alpha", config.get("lora_alpha", 8)), *(("alpha_pattern", v) for v in patterns.values())):
        if type(value) not in (int, float) or not abs(value) < _LARGEST_ALPHA:
            raise CheckpointError(f"{file}: {key}: must be a number, got {value!r:.60}")
    for pattern in patterns:
        try:
            good = len(pattern) <= _LONGEST and len(_REPEATS.findall(pattern)) <= 2 and not _REPEATED.search(pattern)
            re.compile(pattern)
        except re.error:
            good = False
        if not good:
            raise CheckpointError(
                f"{file}: alpha_pattern: must be module names or patterns with two repeats at most, got {pattern!r:.60}"
            )
