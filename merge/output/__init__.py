"""From plan to folder: complete under its final name, or not there at all.

* ``model_folder.py`` writes shards, index, config and tokenizer as tensors arrive.
* ``model_card.py`` writes the card of a merge: models, method, recipe.
* ``work_folder.py`` is the folder beside the result in which it grows; ``interrupts.py`` holds Ctrl-C back until it is
  safe.
"""
