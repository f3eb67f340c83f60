"""``mergesearch reproduce``: rebuilds the model of a model card and measures the scores that the card publishes.

In the order of a run, which ``command.reproduce_card`` leads:

* ``card/`` reads the card: its text, its recipes, its published scores.
* ``chain.py`` finds the recipe that makes the model, and the order in which the recipes it needs are built.
* ``build.py`` builds intermediate models as folders, the last one in memory.
* ``measure.py`` loads the tasks behind the scores, asks them, and gives each score an interval and a verdict.
* ``text.py`` writes published and measured scores side by side: tables, a sentence, JSON.
"""
