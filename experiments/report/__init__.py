"""The report of a study: one HTML page that needs no network, and its tables as CSV and Markdown.

``page.write_report`` is the entry. It reads the facts, computes each part, draws its figures and renders the page:

* ``study_facts.py`` reads the study, every scoring in its store and the verdict; it opens no model.
* ``tables.py`` turns scores into cells with the best marked, and writes the tables beside the page.
* ``importance.py`` computes which holes mattered (fANOVA), ``depth.py`` a recipe's parameters over its layers,
  ``questions.py`` the test questions won and lost with their text, ``cost.py`` tokens, seconds and what was saved.
* ``figures.py`` draws with Plotly; ``parallel.py`` draws parallel coordinates, one line per trial.
* ``render.py`` fills the Jinja2 templates in ``templates/`` and forbids every other script and all network access.
* ``page.py`` puts these together. MLflow gets the same figures from ``page.report_figures``.

`experiments.duel.page` renders its page with the same tools.
"""
