"""What several benches share.

* ``process.py`` runs a command and measures wall clock, CPU time and peak memory; it also names the machine.
* ``parents.py`` writes models to merge, with an adapter folded in and in one dtype.
* ``made_up.py`` is a study whose answers come from a formula, for benches in which no model is opened.
* ``study_growth.py`` adds trials to a store by thousands.
* ``contenders.py`` runs one contender of ``peers.py`` in a process of its own; ``standings.py`` is its table.
"""
