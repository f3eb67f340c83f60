"""The user's cache of tasks, prompts and tokens, for commands that score models outside a study."""

from evals.cache.disk_cache import DiskCache
from merge.user_cache import user_cache

PROMPTS_BYTES = 4_000_000_000
"""Most bytes of tasks, prompts and tokens that stay in the user's cache; a whole leaderboard takes some hundred MB."""


def kept_prompts() -> DiskCache:
    """Return the cache; it may be deleted at any time."""
    return DiskCache(user_cache() / "prompts", most_bytes=PROMPTS_BYTES)
