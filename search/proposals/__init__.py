"""What is asked, in this order: baselines, warm starts, the middle of every family, then a sampler's proposals.

* ``baselines.py`` makes the recipes that a search must beat: parents, their mean, their task arithmetic.
* ``baseline_points.py`` finds where they lie in a family's space, so that samplers learn from them for free.
* ``warm_start.py`` reads recipes and earlier studies that a study begins with.
* ``per_trial_sampler.py`` lines these up, and gives each trial a sampler of its own, seeded by the trial's number.
* ``trial_budget.py`` compares a space with the trials that it deserves.
"""
