"""Evaluation: tasks of lm-eval become prompts, tokens, forward passes, answers and scores.

What happens, in order, and where:

1. ``tasks/`` finds lm-eval's task files, loads them with their rows and draws the question sets of a study.
   ``suites/`` lists ready tasks with the average of their leaderboard; ``mini/`` holds the embedded tasks.
2. ``prompts/`` makes each question's requests with lm-eval's own task code, and turns their texts into tokens.
   ``cache/`` keeps both on disk, by the content of all that they depend on.
3. ``engines/`` answers requests with the weights that a model holds: the live engine shares what prompts have in
   common, lm-eval's HFLM is there to check it, vLLM for GPUs.
4. ``evaluation.py`` puts prompts, engine and metrics together: built once, it scores one candidate after the other.
5. ``scores/`` aggregates answers as lm-eval does and compares two models; ``lm_eval_files/`` writes lm-eval's files.

``model_scorer.py`` does all of this for models outside a search, ``door.py`` has the door for notebooks, `evaluate`;
``errors.py`` the errors of all of this.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evals.door import EvaluationResult, evaluate

__all__ = ["EvaluationResult", "evaluate"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'evals' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module("evals.door"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
