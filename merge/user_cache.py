"""The folder of what can be made again for this user: compiled loops, the demo's base model, tasks, prompts, tokens."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Return ``$MERGESEARCH_CACHE``, else ``mergesearch`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; it may not exist."""
    chosen = os.environ.get("MERGESEARCH_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mergesearch"
