"""The leader: the one process that holds the study. It sends jobs to a pool of scorers, and makes state of outcomes.

* ``run.py``: takes the lead of a study, opens the pool that it asks for, and lets the leader go.
* ``leader.py``: baselines, trials, finalists, test questions, verdict; restoring an earlier run.
* ``dispatch.py``: as many jobs in flight as there are scorers; what is stored is not asked again.
* ``stopping.py``: when no more candidates are asked for.
"""
