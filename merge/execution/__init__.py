"""From plan to tensors.

* ``operands.py`` gives the parents of an output tensor: read or mapped once, checked, and found again by the next
  candidate.
* ``steps.py`` holds prepared merges of single tensors and runs several together.
* ``live_state.py`` remembers what the tensors of a live model hold, so that only those that change are written.
* ``derivatives.py`` tells how a merged tensor, and an objective of it, change with the numbers of its method;
  ``projection.py`` takes the products with a gradient that this needs.
"""
