"""Valid documents of every kind that strangers hand over; hostile ones are made from them."""

from typing import Any

_PAIR = [{"model": "a", "parameters": {"weight": 0.6, "density": 0.5}}, {"model": "b", "parameters": {"weight": 0.4}}]
RECIPES: tuple[Any, ...] = (
    {"merge_method": "ties", "base_model": "base", "models": _PAIR, "parameters": {"normalize": True, "density": 0.7}},
    {"merge_method": "dare_ties", "base_model": "base", "models": _PAIR, "dtype": "bfloat16", "out_dtype": "float32"},
    {
        "merge_method": "slerp",
        "base_model": "a",
        "slices": [{"sources": [{"model": "a", "layer_range": [0, 2]}, {"model": "b", "layer_range": [0, 2]}]}],
        "parameters": {"t": [{"filter": "self_attn", "value": [0, 0.5, 1]}, {"value": 0.5}]},
    },
    {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": "a", "layer_range": [0, 2]}]},
            {"sources": [{"model": "b+lora", "layer_range": [1, 2], "parameters": {"scale": 0.0}}]},
        ],
    },
    {
        "merge_method": "linear",
        "modules": {"text": {"models": _PAIR[:1]}},
        "parameters": {"weight": 1.0},
        "chat_template": "chatml",
    },
)
STAGES: tuple[Any, ...] = (
    [
        {"name": "first", "merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1.0}}]},
        {"merge_method": "slerp", "base_model": "b", "models": [{"model": "first"}], "parameters": {"t": 0.3}},
    ],
)
_WEIGHT = {"low": 0.0, "high": 1.0}
STUDIES: tuple[Any, ...] = (
    {
        "study": "fuzz",
        "families": {
            "ties": {
                "merge_method": {"choices": ["ties", "dare_ties"]},
                "base_model": "base",
                "models": [{"model": "a", "parameters": {"weight": _WEIGHT, "density": {"choices": [0.3, 0.5]}}},
                           {"model": "b", "parameters": {"weight": {**_WEIGHT, "step": 0.1}, "density": 0.5}}],
            },
            "stack": {
                "merge_method": "passthrough",
                "slices": [{"repeat": {"low": 0, "high": 2, "int": True}, "order": _WEIGHT,
                            "sources": [{"model": {"choices": ["a", "b"]},
                                         "layer_range": {"start": {"low": 0, "high": 1, "int": True}, "length": 1}}]},
                           {"sources": [{"model": "a", "layer_range": [0, {"low": 1, "high": 2, "int": True}]}]}],
            },
        },
        "baselines": {"known": RECIPES[2]},
        "evaluate": {
            "tasks": [{"task": "mini_arc", "metric": "acc", "num_fewshot": 0, "weight": 1.0}, {"task": "mini_gsm8k"}],
            "questions": {"search": 10, "selection": "all", "test": {"mini_arc": 4, "mini_gsm8k": 4}},
            "data": "hub",
        },
        "search": {"sampler": "tpe", "trials": 5, "seed": 1, "race_level": 0.05, "sampler_args": {"multivariate": 1}},
        "constraints": {"mini_arc/acc": {"at_least": "0.9 of base"}},
        "store": "sqlite:///study.db",
        "tracking": {"mlflow": None},
    },
    {
        "study": "slerp",
        "families": {"slerp": {"merge_method": "slerp", "base_model": "a", "models": [{"model": "b"}],
                               "parameters": {"t": [{"filter": "mlp", "value": {**_WEIGHT, "gradient": 3}},
                                                    {"value": {"low": 0.1, "high": 0.9, "name": "t"}}]}}},
        "evaluate": {"suite": "mini"},
        "search": {"max_hours": 0.5, "objective": "pareto", "patience": 4, "workers": 2, "warm_start": []},
    },
)  # fmt: skip
_HUB = {"merge_method": "ties", "base_model": "org/base", "models": [{"model": "org/a", "parameters": {"weight": 0.5,
        "density": 0.5}}, {"model": "org/b", "parameters": {"weight": [0, 1], "density": 0.5}}]}  # fmt: skip
_RESULT = {
    "task": {"type": "text-generation"},
    "dataset": {"name": "ARC (25-Shot)", "type": "ai2_arc", "args": {"num_few_shot": 25}},
    "metrics": [{"type": "acc_norm", "value": 62.6, "name": "normalized accuracy"}],
}
CARD_DOCUMENTS: tuple[Any, ...] = (
    {
        "front": {"base_model": ["org/a", "org/b"], "model-index": [{"name": "card", "results": [_RESULT]}]},
        "recipe": _HUB,
        "table": [["task", "ours", "org/a"], ["MMLU", "60.1", "59.0"], ["GSM8K", 55.5, "1e400"], ["Average", "58", ""]],
    },
)
ADAPTERS: tuple[Any, ...] = (
    {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": ["q_proj"], "bias": "none", "use_rslora": True,
     "alpha_pattern": {"q_proj": 2.5, r".*\.1\.self_attn": 4}, "fan_in_fan_out": False, "use_dora": False},
)  # fmt: skip
ARC_ROW: dict[str, Any] = {
    "id": "x1",
    "question": "Why is the sky blue?",
    "choices": {"text": ["light", "dust", "sea", "paint"], "label": ["A", "B", "C", "D"]},
    "answerKey": "A",
}
GSM_ROW: dict[str, Any] = {"question": "What is 2 + 3?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"}
