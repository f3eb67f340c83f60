"""One sampler per trial, seeded by the trial's number: what is proposed depends on the store alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search.proposals.warm_start import WarmStart, read_warm_start
from search.samplers import SamplerContext, make_sampler, proposal_seed
from search.storage.store import Store
from search.study.study import LoadedStudy


def prepare_proposals(study: LoadedStudy, store: Store, warm: WarmStart | None) -> None:
    """Set a store's sampler, and line up what is to be asked first: warm starts, then the middle of every family.

    Args:
        study: The study.
        store: Its store.
        warm: What the study begins with, where it was read already.

    Raises:
        StudyError: A warm start does not fit.
    """
    pinned = store.pinned("warm_start")
    begun = WarmStart.from_json(pinned) if isinstance(pinned, str) else warm or read_warm_start(study)
    store.pin("warm_start", begun.to_json(), "restore the earlier studies")
    memo: dict[str, Any] = {}
    seed = study.file.search.seed
    store.trials.sampler = PerTrialSampler(lambda own: make_proposal(study, begun, memo, seed=own), seed)
    families = study.space.families.values()
    middles = [study.space.parameters(family.name, family.middle()) for family in families]
    for parameters in (*begun.first, *middles):
        store.enqueue(parameters)


def make_proposal(study: LoadedStudy, warm: WarmStart, memo: dict[str, Any], *, seed: int) -> BaseSampler:
    """Return the study's sampler for one proposal.

    Raises:
        StudyError: The sampler does not suit the space or refuses its arguments.
    """
    settings = study.file.search
    context = SamplerContext(study.space, settings.trials, seed, settings.seed, study.objectives(), warm.sources, memo)
    return make_sampler(settings.sampler, context, settings.sampler_args)


class PerTrialSampler(BaseSampler):
    """Hands every call on to a sampler that was made for the trial in question.

    Optuna asks a sampler for the space before it tells anybody the trial's number, so the sampler cannot be set
    from outside in time.

    Args:
        make: Returns a sampler for a seed.
        seed: Seed of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._current: tuple[int, BaseSampler] | None = None
        self._drawn: set[str] = set()
        self._given: Mapping[str, Any] = {}

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self._current is None or self._current[0] != trial.number:
            self._current = trial.number, self._make(proposal_seed(self._seed, trial.number))
            self._drawn = set()
            self._given = trial.system_attrs.get("fixed_params", {})
        return self._current[1]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Hand on."""
        self._current = None
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Hand on."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Hand on."""
        proposed = self._of(trial).sample_relative(study, trial, search_space)
        self._drawn.update(proposed)
        return proposed

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Hand on, after drawing again what a process drew that died before it had drawn all of the trial."""
        sampler = self._of(trial)
        for name, distribution in trial.distributions.items():
            if name not in self._drawn and name not in self._given:
                sampler.sample_independent(study, trial, name, distribution)
                self._drawn.add(name)
        self._drawn.add(param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Hand on."""
        self._of(trial).after_trial(study, trial, state, values)
