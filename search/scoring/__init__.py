"""What a scorer holds, and how it scores a candidate.

* ``setup.py``: all that a scorer in another process is told, and opens.
* ``resources.py``: parents, tasks, question sets, prompts, each opened when it is first needed, and pinned.
* ``parent_check.py``: parents must stay what they were when the study began.
* ``live_models.py``: one resident model per architecture, on shared tensors.
* ``candidate_scorer.py``: writes a recipe into a model and asks it block after block, racing against rivals.
"""
