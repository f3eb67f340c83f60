"""Facts that are fixed at a study's first start: question sets, the objective, hashes of the parents."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from search.errors import StoreError
from search.study.study import differences


class Pins(Protocol):
    """The facts of one study."""

    def pin(self, key: str, value: object, remedy: str) -> None:
        """Record a fact once, and refuse a later different one with a remedy.

        Raises:
            StoreError: It is recorded with another value.
        """

    def pinned(self, key: str) -> object:
        """Return a fact; None before it is recorded."""


@dataclass(frozen=True)
class FixedPins:
    """Facts as the leader recorded them, for a scorer, which has no store.

    Attributes:
        place: The store, for messages.
        facts: The facts by key.
    """

    place: str
    facts: Mapping[str, object]

    def pin(self, key: str, value: object, remedy: str) -> None:
        """Refuse a fact that is another than the recorded one."""
        if key in self.facts:
            refuse_change(self.place, key, self.facts[key], plain(value), remedy)

    def pinned(self, key: str) -> object:
        """Return a fact; None where it is not recorded."""
        return self.facts.get(key)


def plain(value: object) -> object:
    """Return a value as a store gives it back: tuples as lists, keys as text."""
    return json.loads(json.dumps(value))


def refuse_change(place: str, key: str, recorded: object, value: object, remedy: str) -> None:
    """Raise a StoreError that names the first difference between a recorded fact and a value, if there is one."""
    if recorded != value:
        changes = list(differences(recorded, value))
        raise StoreError(f"{place}: {key} changed since the study began: {changes[0]}; {remedy}")
