"""The versions of what decides a score, written down when a study begins."""

import platform
from importlib.metadata import PackageNotFoundError, version

DECIDE = ("mergesearch", "torch", "transformers", "tokenizers", "safetensors", "lm-eval", "datasets", "numpy", "optuna")
"""Distributions whose version can change weights, prompts or scores."""


def library_versions() -> dict[str, str]:
    """Return name to version of Python and of every distribution in `DECIDE` that is installed."""
    found = {"python": platform.python_version()}
    for name in DECIDE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
