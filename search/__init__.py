"""The search: spaces of recipes, samplers, and the loop that asks, merges, scores and tells.

A study file is read (`study`), its holes make a space (`space`). The leader (`loop`) has baselines scored, then asks a
sampler for trials (`proposals`, `samplers`), sends each as a job to a scorer (`workers`, `scoring`), stores its answers
(`storage`), folds them into the state (`results`), and tells the sampler what they are worth (`objective`). In the end
it names a winner and judges it on questions that nobody searched on (`verdict`).

door         `run` and `load`, for notebooks and other programs
study/       the study file: schema, checks, identity
space/       holes, families, the search space, from values to recipes and back
objective/   what answers are worth: weighted mean, Pareto front, constraints, racing, the first rung
samplers/    one file per sampler; the folder is the list
proposals/   what is asked first, and a sampler for every trial number
results/     outcomes, the state of a search, records for observers, the verdict
workers/     jobs, and pools of scorers that do them: in this process, on this host, on Ray
storage/     the store: an Optuna storage with every trial and answer; who leads; waiting for it
scoring/     what a scorer holds: parents, live models, prompts
loop/        the leader: which job comes next, what becomes of its outcome
verdict/     finalists, winner, comparisons with every baseline
errors       what this room raises
hardware     memory, cores and accelerators that scorers share
interrupts   Ctrl-C
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.door import StudyResult, load, run
    from search.results.observer import NullObserver, Observer

__all__ = ["NullObserver", "Observer", "StudyResult", "load", "run"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'search' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module("search.results.observer" if name.endswith("Observer") else "search.door"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
