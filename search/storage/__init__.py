"""The store of a study: an Optuna storage (sqlite, PostgreSQL, a journal file) that only the leader writes to.

* ``store.py``: the verbs: ask, tell, remember, pin; everything else is behind them.
* ``opening.py``, ``write_ahead.py``, ``journal_lock.py``: opens storages that a kill leaves whole.
* ``answers.py``: the records of trials with every answer, in a table of their own.
* ``codec.py``: a scored candidate as plain values, and back.
* ``pins.py``: facts that are fixed at the first start.
* ``leadership.py``: one leader per study: a file's lock, and a term that every write checks.
* ``waiting.py``: waits for a storage that is locked or away.
* ``replay.py``: tells an observer of all that a store holds, without opening a model.
"""
