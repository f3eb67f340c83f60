"""What a recipe or a finished study leaves with: a model folder, a model card, a repository on the hub, a check.

* ``merge_to_folder.py`` is ``mergesearch merge``: any recipe file to a model folder.
* ``export.py`` is ``mergesearch export``: the winner's recipe and weights. It asks ``licences.py`` which licence the
  parents allow, ``card.py`` for the README with scores and recipe, and ``push.py`` to upload the folder.
* ``verify.py`` is ``mergesearch verify``: compares recipe, parents, library versions and questions with what the study
  recorded, rebuilds the winner, scores it again and lists every difference.
"""
