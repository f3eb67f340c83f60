"""What a candidate is worth, and when enough of its answers are known.

* ``objective.py`` is the weighted mean of the tasks, with paired intervals of differences.
* ``pareto.py`` tells which candidates no other beats in every task.
* ``constraints.py`` has the scores that a winner must keep, and how far a candidate misses them.
* ``racing.py`` orders the questions, cuts them into blocks, and stops a candidate that will not catch up.
* ``rung.py`` asks a cheap stand-in first: the likelihood of right answers before texts are generated.
"""
