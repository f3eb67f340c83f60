"""Reads a model card as people write it; a card is untrusted text, so reading has bounds on size and time.

* ``card_text.py`` decodes the card and flattens saved HTML; ``time_limit.py`` bounds the CPU time of all that follows.
* ``front_matter.py`` reads the YAML at its head, model-index included; ``safe_yaml.py`` is YAML without errors.
* ``recipes.py`` finds the recipes: YAML blocks first, then ``flattened_recipe.py`` for YAML that lost its line breaks
  or indentation, then ``prose_recipe.py`` for sentences. ``tolerance.py`` drops parameters that mergekit would ignore.
* ``claimed_scores.py`` collects the published scores: from the model-index, from the pipe tables that ``tables.py``
  finds, and from running text that ``score_scanner.py`` reads.
* ``benchmarks.py`` knows which lm-eval task, metric and number of shots a benchmark's name stands for.
* ``model_map.py`` replaces the models that the card names by local ones, and scales layer ranges that do not fit.
"""
