"""Tensors and checkpoints: recipes, merge methods and the engine; knows nothing of tasks or search."""
