"""``mergesearch duel``: compares families of merges, or fixed recipes, on the same test questions.

In the order of a run, which ``command.run_duel`` leads:

* ``competitors.py`` names who takes part: the best recipe of each family after a search with the same budget, or the
  study's recipes as they are (``--fixed``).
* ``scoring.py`` scores competitors and baselines on the test questions, random masks with several seeds, and keeps
  every answer in the duel's own store, so that a second start only reads.
* ``comparison.py`` compares two competitors: paired bootstrap over questions and masks, exact paired test, smallest
  detectable difference.
* ``text.py`` and ``page.py`` write the result: a sentence to quote, Markdown tables, an HTML page with a plot.
"""
