"""What parents and candidates cost in memory, and how it is kept low.

* ``cache.py`` keeps what depends on parents alone (weights, thresholds, norms) within a budget.
* ``large_pages.py`` puts tensors that every candidate streams over on large pages.
* ``shared_files.py`` lets the processes of a host map what one of them computed.
* ``prefetch.py`` prepares the next tensors in threads while one is written.
"""
