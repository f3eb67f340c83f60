"""The renderer for programs: one JSON object a line on standard output, and nothing else there.

Every object has ``event`` and ``time`` (seconds since 1970). A number that is not finite is ``null``. The kinds, in
the order in which they come:

* ``started``: ``study``, ``trials`` (budget), ``done`` (trials of an earlier run), ``baselines`` (names),
  ``questions`` (``search``, ``selection``, ``test``: how many of each), ``metrics`` (the ``TASK/METRIC`` that the
  objective is made of).
* ``scored``, once for each scoring, those of an earlier run first: ``phase`` (``baselines``, ``trials``,
  ``finalists``, ``test``), ``kind`` (``baseline``, ``trial``, ``finalist``), ``number``, ``name``, ``family``,
  ``state`` (``complete``, ``stopped`` by the race, ``failed``), ``reason``, ``objective``, ``metrics``, ``params``
  (values of the holes), ``seconds`` (by part), ``done`` (trials so far), ``seconds_left`` (for the trials that are
  left), ``best`` (``name``, ``objective``).
* ``note``, at any time: ``text``, a line for a person.
* ``verdict``: ``winner``, ``family``, ``objective`` (on the test questions), ``search_objective``, ``optimism``,
  ``best_parent``, ``comparisons`` (each ``opponent``, ``difference``, ``low``, ``high``, ``level``, ``shown``:
  ``better``, ``worse``, ``better, alone``, ``worse, alone`` or ``not shown to differ``), ``scores`` (model to scores
  on the test questions), ``ended`` (why).
* ``places``: ``folder``, ``places`` (each ``name``, ``location``, ``command``), ``account`` (seconds per trial, a
  line).

Errors are a line on standard error and the exit code, as without ``--json``.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TextIO

from experiments.running.places import Place
from experiments.running.progress import Progress, phase_of
from experiments.running.renderer import AbstractRenderer
from experiments.study_folder.verdict_text import judgement
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Verdict


@dataclass
class JsonRenderer(AbstractRenderer):
    """Writes one JSON object per event; see the head of this file for the kinds.

    Attributes:
        folder: The study's folder, for the last event.
        output: Where to write; each line is flushed.
        clock: Returns seconds since 1970.
        progress: How far the search is.
    """

    folder: str
    output: TextIO = field(default_factory=lambda: sys.stdout)
    clock: Callable[[], float] = time.time
    progress: Progress = field(default_factory=Progress)

    def open(self, study: str) -> None:
        """Show nothing yet."""

    def started(self, outlook: Outlook) -> None:
        """Write ``started``."""
        self.progress.start(outlook)
        self._write(
            "started",
            study=outlook.study,
            trials=outlook.trials,
            done=outlook.done,
            baselines=list(outlook.baselines),
            questions=dict(outlook.counts),
            metrics=list(outlook.metrics),
        )

    def scored(self, record: TrialRecord) -> None:
        """Write ``scored``."""
        self.progress.add(record)
        best = self.progress.best
        self._write(
            "scored",
            phase=phase_of(record),
            kind=record.kind,
            number=record.number,
            name=record.name,
            family=record.family,
            state=record.state,
            reason=record.reason,
            objective=record.metrics.get("objective") if record.state == "complete" else None,
            metrics=dict(record.metrics),
            params=dict(record.params),
            seconds=dict(record.parts),
            done=self.progress.trials,
            seconds_left=self.progress.seconds_left(),
            best=None if best is None else {"name": best.name, "objective": best.metrics["objective"]},
        )

    def finished(self, verdict: Verdict) -> None:
        """Write nothing yet."""

    def note(self, line: str) -> None:
        """Write ``note``."""
        self._write("note", text=line)

    def conclude(self, verdict: Verdict, places: Sequence[Place], account: str) -> None:
        """Write ``verdict`` and ``places``."""
        comparisons = [
            {
                "opponent": comparison.opponent,
                "difference": comparison.objective.estimate,
                "low": comparison.objective.low,
                "high": comparison.objective.high,
                "level": comparison.objective.level,
                "shown": judgement(comparison),
            }
            for comparison in verdict.comparisons
        ]
        self._write(
            "verdict",
            winner=verdict.winner,
            family=verdict.family,
            objective=verdict.test_value,
            search_objective=verdict.search_value,
            optimism=verdict.optimism,
            best_parent=verdict.best_parent,
            comparisons=comparisons,
            scores={name: dict(scores) for name, scores in verdict.scores.items()},
            ended=verdict.ended,
        )
        self._write("places", folder=self.folder, places=[asdict(place) for place in places], account=account)

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, event: str, **facts: object) -> None:
        line = json.dumps(_finite({"event": event, "time": self.clock(), **facts}), ensure_ascii=False, default=str)
        self.output.write(line + "\n")
        self.output.flush()


def _finite(value: object) -> object:
    """Return a value in which numbers that JSON does not have are None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
