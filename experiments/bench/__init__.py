"""Measurements, each a script of its own: ``python -m experiments.bench.NAME``.

Each module says at its head what it measures, against which peer, how long it takes and how to run it in its smallest
form; ``--help`` repeats it. ``docs/benchmarks.md`` holds figures with the commands that made them.

* Merging: ``merge_in_memory.py`` (a candidate in a live model), ``merge_to_disk.py`` (a folder, against mergekit),
  ``merge_growth.py`` (memory by size of model).
* Scoring: ``scoring.py`` (against lm-eval's HFLM), ``start.py`` (time to the first forward pass),
  ``descent.py`` (gradients of an objective by weights, against scoring).
* Search: ``peers.py`` (a whole search against a plain loop), ``racing.py`` (what racing saves on recorded answers),
  ``load.py`` (thousands of trials in a real store), ``workers.py`` (several processes).
* Reliability: ``faults.py`` (kills, full disks, lost stores), ``fuzz.py`` (hostile files).
* ``support/`` holds what they share.
"""
