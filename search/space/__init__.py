"""The search space: what a recipe with holes may become, and the way back from a recipe to its values.

* ``holes.py`` reads one hole, a range or a choice, as an Optuna distribution.
* ``template.py`` reads a document with holes: a slot where each stands, and the dimensions, by name.
* ``layer_stacking.py`` has the three keys by which slices are searched, and the plain slices that they stand for.
* ``family.py`` is one recipe with holes: ``decode`` fills them, ``encode`` reads them back.
* ``search_space.py`` is all families of a study: asks a candidate from a trial, and makes its plain recipe.
* ``transform.py`` maps a space to numbers in [0, 1], grids and choices, for samplers that need a box.
"""
