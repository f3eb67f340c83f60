"""What a search makes, as plain values.

* ``job.py``: what a scorer is asked to do: a recipe, a set of questions, whom it races against.
* ``outcome.py``: what became of a job: scored, or failed.
* ``search_state.py``: what everyone has scored so far; each outcome gives the next state.
* ``trial_records.py``, ``observer.py``: the records that terminal, tables and MLflow hear of, and how.
* ``verdict.py``: the end: winner, comparisons, what they are worth.
"""
