"""The doors of this room: run a study, or look at what one has found; a study and a store are all that they need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import TypeAdapter
from typing_extensions import override

from merge.recipe.schema import Recipe
from search.errors import StudyError
from search.interrupts import Say, silent
from search.loop.leader import VERDICT
from search.loop.run import run_search, url_of
from search.results.observer import NullObserver, Observer, Observers, Outlook, TrialRecord
from search.results.verdict import Verdict
from search.storage.replay import replay
from search.storage.store import Store
from search.study.study import LoadedStudy, load_study

STUDY_FILE = "study.yaml"
"""Name of the study's copy in its folder."""


@dataclass(frozen=True)
class StudyResult:
    """What a study has found.

    Attributes:
        study: The study.
        folder: Its folder.
        verdict: Its verdict on the test questions; None as long as it has none.
    """

    study: LoadedStudy
    folder: Path
    verdict: Verdict | None

    @property
    def best(self) -> Recipe | None:
        """The winner's plain recipe; None as long as there is no verdict."""
        return None if self.verdict is None else Recipe.from_mapping(self.verdict.recipe, place="the verdict's recipe")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per finished trial: ``number``, ``family``, ``state``, its holes, its scores, ``seconds``.

        ``state`` is ``complete``, ``stopped`` (by the race; its scores are of a part of the questions) or ``failed``.
        Holes and scores (``objective`` and ``TASK/METRIC``) are columns of their own names, NaN where a trial has none.
        """
        trials = _Trials()
        replay(self.study, self.folder, trials)
        return pd.DataFrame(trials.rows).sort_values("number", ignore_index=True) if trials.rows else pd.DataFrame()


@dataclass
class _Trials(NullObserver):
    rows: list[dict[str, Any]] = field(default_factory=list)

    @override
    def scored(self, record: TrialRecord) -> None:
        """Keep the row of a trial."""
        if record.kind == "trial":
            facts = {"number": record.number, "family": record.family, "state": record.state}
            seconds = record.ended - record.started
            self.rows.append({**facts, **record.params, **record.metrics, "seconds": seconds})


@dataclass(frozen=True)
class _StudyCopy(NullObserver):
    """Keeps the study's file in its folder once the store has accepted it, where nobody else does."""

    study: LoadedStudy
    folder: Path

    @override
    def started(self, outlook: Outlook) -> None:
        """Write it."""
        text = yaml.safe_dump(self.study.file.model_dump(mode="json", exclude_unset=True), sort_keys=False, width=120)
        draft = self.folder / f"{STUDY_FILE}.partial"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.folder / STUDY_FILE)


def run(
    study: str | Path | Mapping[str, Any] | LoadedStudy,
    *,
    folder: str | Path | None = None,
    observers: Sequence[Observer] = (),
    models_roots: Sequence[str | Path] = (),
    device: str = "cpu",
    workers: int | None = None,
    ray: str | None = None,
    take_over: bool = False,
    say: Say = silent,
) -> StudyResult:
    """Run a study to its verdict, or what an earlier run left of it. Prints nothing.

    Ctrl-C ends it after the current block of questions; what was finished is kept, and the same call goes on.

    Args:
        study: A study file, its content as a mapping, or a loaded study.
        folder: Where the study's store, prompts and copy go; default ``runs/NAME``.
        observers: Hear of everything that is scored; subclass ``NullObserver``.
        models_roots: Folders in which model names are looked up.
        device: Where models run: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        workers: Number of scorers, each with a model of its own; default: what the study says, which is 1.
        ray: Address of a Ray cluster that scores (``auto``, HOST:PORT), ``local`` to start one here.
        take_over: Lead also a study that a process of another host led, which is gone.
        say: Takes lines for a person, such as that the store is waited for.

    Returns:
        The verdict, the trials as a table, the best recipe.

    Raises:
        search.errors.SearchError: The study, its store or its sampler is wrong, or candidates fail one after the other.
        merge.errors.MergeError: A parent is missing or does not fit.
        evals.errors.EvalError: A task, a metric or the data are wrong.
        KeyboardInterrupt: Ctrl-C.
    """
    loaded = _loaded(study)
    if workers is not None:
        loaded = loaded.with_search(workers=workers)
    root = Path("runs") / loaded.file.study if folder is None else Path(folder)
    verdict = run_search(
        loaded,
        root,
        observer=Observers((_StudyCopy(loaded, root), *observers)),
        models_roots=[Path(one) for one in models_roots],
        device=device,
        say=say,
        ray=ray,
        take_over=take_over,
    )
    return StudyResult(loaded, root, verdict)


def load(folder: str | Path) -> StudyResult:
    """Return what the study in a folder has found so far; opens no model and writes nothing.

    Args:
        folder: The study's folder, as in ``runs/NAME``.

    Raises:
        search.errors.SearchError: There is no study, or its store cannot be opened.
    """
    root = Path(folder)
    if not (root / STUDY_FILE).is_file():
        raise StudyError(f"{root}: must be the folder of a study, as in runs/NAME, has no {STUDY_FILE}")
    study = load_study(root / STUDY_FILE)
    noted = Store(url_of(study, root), study, existing=True).pinned(VERDICT)
    verdict = None if noted is None else TypeAdapter(Verdict).validate_python(noted)
    return StudyResult(study, root, verdict)


def _loaded(study: str | Path | Mapping[str, Any] | LoadedStudy) -> LoadedStudy:
    if isinstance(study, LoadedStudy):
        return study
    return LoadedStudy(dict(study), place="study") if isinstance(study, Mapping) else load_study(Path(study))
