"""mergekit's YAML as checked values.

* ``schema.py`` is the recipe; ``validation.py`` what is wrong with a document beyond its types.
* ``model_reference.py`` splits ``model+adapter`` and finds where a name leads.
"""
