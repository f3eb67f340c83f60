"""A small study on tiny models and the embedded questions, for tests of the loop and the command line."""

from typing import Any

import yaml


def tiny_study(**search: object) -> str:
    """Return the text of a study with two families; ``search`` overrides its search section."""
    document: dict[str, Any] = {
        "study": "tiny",
        "families": {
            "ties": {
                "merge_method": "ties",
                "base_model": "base",
                "models": [
                    {
                        "model": name,
                        "parameters": {"weight": {"low": 0.1, "high": 1.0}, "density": {"low": 0.2, "high": 1.0}},
                    }
                    for name in ("math", "science")
                ],
            },
            "slerp": {
                "merge_method": "slerp",
                "base_model": "math",
                "models": [{"model": "math"}, {"model": "science"}],
                "parameters": {"t": {"low": 0.0, "high": 1.0, "gradient": 2}},
            },
        },
        "evaluate": {
            "tasks": [
                {"task": "mini_arc", "metric": "acc_norm", "num_fewshot": 0},
                {"task": "mini_gsm8k", "metric": "gold_bits_per_byte", "num_fewshot": 0, "weight": 0.5},
            ],
            "questions": {"search": 16, "selection": 8, "test": 12},
            "verdict": "asked",
        },
        "search": {"trials": 6, "seed": 1, "race": False, **search},
    }
    return yaml.safe_dump(document, sort_keys=False)
