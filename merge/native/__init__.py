"""Compiled loops: one pass over a tensor instead of one per operation, with the same bits.

* ``compiler.py`` compiles ``src/`` once per machine and loads it; without a compiler nothing fails.
* ``tensors.py`` passes tensors and plain numbers to the loops that sum, combine and check.
* ``ranking.py`` to those that find the largest entries; ``overlap.py`` to those that look at how far each parent moved.
"""
