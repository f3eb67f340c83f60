"""``mergesearch evaluate``: scores models and recipes on lm-eval tasks, one column per model.

* ``options.py`` holds and checks what the command line asks for.
* ``run.py`` opens each model in turn, scores it and prints the table.
* ``prompt_cache.py`` opens the user's cache of tasks, prompts and tokens, so that a second start skips building them.
* ``leaderboard.py`` makes the table: a suite as its leaderboard shows it, or every metric of every task.
* ``lm_eval_output.py`` writes lm-eval's results file and samples for each model.
"""
