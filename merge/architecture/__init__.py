"""What names of tensors and a config say about a model's structure; no weight is read.

* ``layers.py`` finds the decoder layers by their names, and writes configs with another number of them.
* ``modules.py`` tells a text decoder from vision and audio towers.
* ``mergekit_layout.py`` knows which architectures mergekit infers, which changes the order of its tensors.
* ``stored_names.py`` gives a live model's tensors under the names of published checkpoints (split experts, for one).
"""
