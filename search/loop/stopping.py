"""When a search asks for no more candidates."""

from search.results.search_state import SearchState
from search.samplers import SamplerContext, chosen_sampler
from search.storage.store import Store
from search.study.study import LoadedStudy


def reason_to_stop(study: LoadedStudy, state: SearchState, left: int | None, seconds: float) -> str | None:
    """Return why no more candidates are asked for; None to go on.

    Args:
        study: The study.
        state: What is done.
        left: Candidates that a search of each one once still has; None for another search.
        seconds: Since this run began to ask.
    """
    settings, done = study.file.search, state.trials
    if done >= settings.trials:
        return f"the budget of {settings.trials} trials is spent"
    if settings.max_hours is not None and seconds > 3600 * settings.max_hours:
        return f"{settings.max_hours:g} hours were up after {done} trials"
    if settings.patience is not None and state.idle >= settings.patience:
        return f"no new best in {state.idle} trials, after {done}"
    if left == 0:
        return f"all {study.space.count()} candidates of the space were asked for"
    return None


def candidates_left(study: LoadedStudy, store: Store) -> int | None:
    """Return how many candidates a search that asks for each one once still has; None for another search."""
    size, settings = study.space.count(), study.file.search
    context = SamplerContext(study.space, settings.trials, 0, 0, study.objectives())
    if size is None or chosen_sampler(settings.sampler, context) != "brute_force":
        return None
    return max(0, size - store.distinct())
