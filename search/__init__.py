"""The search: spaces of recipes, samplers, and the loop that asks, merges, scores and tells."""
