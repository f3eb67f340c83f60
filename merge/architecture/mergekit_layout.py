"""Where the reference places tensors outside the layers: after architectures that it knows, or as it infers them."""

import re
from collections.abc import Mapping
from typing import Any

_KNOWN = re.compile(
    r"(Llama|Mistral|Mixtral|QWen|Qwen2|Qwen3|Qwen3Moe|Phi|Phi3|Phi3Small|PhiMSFT|MixFormerSequential|Gemma|Gemma2|Gemma3|"
    r"Falcon|GPT2|GPTNeoX|GPTBigCode|StableLm|StableLMEpoch|Olmo2|Cohere|Cohere2|InternLM2|Granite|Glm4|Glm4Moe|Lfm2|"
    r"Mamba|Starcoder2|Afmoe)(ForCausalLM|LMHeadModel)"
    r"|(Qwen2VL|Qwen2_5_VL|Qwen3VL|Gemma3)ForConditionalGeneration"
)
"""Classes that follow the last slice with norm and head: seen with `mergekit-yaml`, or named so in its description."""
_LAST = re.compile(r"(^|\.)merger\.mlp\.\d+\.")


def is_inferred(config: Mapping[str, Any]) -> bool:
    """Return whether the reference infers a model's layout: all that lies outside the layers follows the first slice.

    >>> is_inferred({"architectures": ["Qwen2MoeForCausalLM"]}), is_inferred({"architectures": ["LlamaForCausalLM"]})
    (True, False)
    """
    named = config.get("architectures")
    return not (isinstance(named, list) and named and _KNOWN.fullmatch(str(named[0])))


def outer_depth(name: str) -> float:
    """Return where the reference reads a gradient for a tensor outside the layers: at its beginning.

    The matrices of Qwen-VL's merger count as a stack of one layer, which reads it at its end.
    """
    return 1.0 if _LAST.search(name) else 0.0
