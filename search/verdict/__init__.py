"""The end of a search: who won, and whether that holds on questions that nobody searched on.

* ``finalists.py`` orders the finalists, names the winner, and compares it with an opponent, task by task.
* ``conclusion.py`` goes through it: selection questions name the winner, test questions judge it, other random masks
  show how much of it is luck.
"""
