"""Optuna's storage on a database, read in parts, its trials sharing what is alike: each process holds all of them."""

from sys import intern
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialModel
from optuna.trial import FrozenTrial
from sqlalchemy import select

PART = 250
"""Trials that are read at once; a row of a database is a hundred times as large on its way as it is in the end."""
MOST_ALIKE = 100
"""Sets of attributes that are held once for all trials that have them."""
_ASKED = "tpe:relative_params"
"""What TPE tells other processes of a trial that runs; it asks for it of no other, and it is as long as the rest."""
_NONE = 2**31 - 1
"""No trial has a larger number: it is the last that Optuna's column holds."""


class LeanStorage(RDBStorage):
    """A database whose trials are small in memory: equal distributions, names and texts are one object each.

    Optuna reads each distribution of each trial anew; of a trial without its record they are half. Optuna's cache asks
    for trials by the method below; a version that asks otherwise would get the same trials, only larger and later.
    """

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        self._distributions: dict[str, dict[str, BaseDistribution]] = {}
        self._attributes: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}

    def _get_trials(self, study_id: int, *values: Any, **named: Any) -> list[FrozenTrial]:
        """Return trials as Optuna does, those that are finished with shared parts: nobody changes them any more."""
        if named.get("trial_id_greater_than") != -1:
            return [self._lean(trial) for trial in super()._get_trials(study_id, *values, **named)]
        with self.engine.connect() as connection:
            asked = select(TrialModel.trial_id).where(TrialModel.study_id == study_id).order_by(TrialModel.trial_id)
            ids = [row.trial_id for row in connection.execute(asked)]
        found = []
        for begin in range(0, len(ids), PART):
            part = {"included_trial_ids": set(ids[begin : begin + PART]), "trial_id_greater_than": _NONE}
            found += [self._lean(trial) for trial in super()._get_trials(study_id, *values, **{**named, **part})]
        return found

    def _lean(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.state.is_finished():
            trial.params = _named(trial.params)
            trial.user_attrs = self._alike(trial.user_attrs)
            trial.system_attrs = self._alike({k: v for k, v in trial.system_attrs.items() if not k.startswith(_ASKED)})
            known = self._distributions.setdefault(" ".join(trial.distributions), trial.distributions)
            if known == trial.distributions:
                trial.distributions = known
        return trial

    def _alike(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return attributes as one object with equal ones; those of most trials are all equal."""
        key = tuple(attributes.items())
        if any(type(value) not in (str, bool) for value in attributes.values()):
            return _named(attributes)
        if key not in self._attributes and len(self._attributes) >= MOST_ALIKE:
            return _named(attributes)
        return self._attributes.setdefault(key, attributes)


def _named(facts: dict[str, Any]) -> dict[str, Any]:
    return {intern(name): _shared(value) for name, value in facts.items()}


def _shared(value: Any) -> Any:
    if type(value) is dict:
        return _named(value)
    return intern(value) if type(value) is str else value
