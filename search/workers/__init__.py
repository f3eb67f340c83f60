"""Scorers, and the pools that hand jobs to them. A pool has three verbs: submit, next finished, close.

The leader (``search/loop/``) submits as many jobs as there are scorers, and each time one is finished submits the next.
Scorers know neither the store nor each other.

* ``pool.py``: the three verbs, and what a scorer is to a pool.
* ``in_process.py``: one scorer in the leader's own process, the default.
* ``time_limit.py``: how long a job may take, judged by those that are finished.
* ``local_pool.py``: one process per core or accelerator of this host; lost ones are replaced, their jobs run again.
* ``ray_pool.py``: one Ray actor per core or accelerator of a cluster; Ray places, restarts and detects.
"""
