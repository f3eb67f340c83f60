"""What merge methods are built from, for one tensor at a time.

* ``inputs.py`` is what a method sees: parents, base, random numbers, what is known already, and the blocks to work in.
* ``kernel.py`` is what it gives back: a function of spans, and where possible one pass over the whole tensor.
* ``arithmetic.py`` says in which dtype and steps sums are taken: float32, or as the reference does.
* ``masks.py`` are the kinds of masks; ``sparsify.py`` makes one for each way of dropping entries, with thresholds from
  ``top_k.py`` and random numbers from ``random_draws.py``.
* ``task_vector.py`` is a parent minus the base with its mask and factor; ``mask_norms.py`` gives the norms that the
  factor needs.
* ``combination.py`` adds task vectors or tensors, with or without a vote on signs; ``overlap.py`` adds them by how many
  change an entry.
* ``native_records.py`` packs masks and task vectors for the compiled loops.
"""
