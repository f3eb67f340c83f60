"""Runs a study as the command does: its folder, the MLflow mirror, progress, the verdict, the report."""

from collections.abc import Sequence
from pathlib import Path

from experiments.devices import usable_device
from experiments.errors import InputError
from experiments.models_roots import models_roots as all_roots
from experiments.running.mirror import open_mirror
from experiments.running.observers import Everyone, MirrorObserver, ReportWriter, StudyCopy
from experiments.running.overrides import Overrides, StudySource
from experiments.running.places import places_of
from experiments.running.renderers import make_renderer
from experiments.study_folder.folder import FolderWriter, StudyFolder
from experiments.tracking.address import tracking_uri
from search.door import StudyResult
from search.loop.run import run_search
from search.results.observer import Observer
from search.study.study import LoadedStudy


def run(
    study: StudySource,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    trials: int | None = None,
    max_hours: float | None = None,
    patience: int | None = None,
    workers: int | None = None,
    ray: bool | str = False,
    take_over: bool = False,
    search_on_test: bool = False,
    device: str = "cpu",
    models_roots: Sequence[str | Path] | None = None,
    progress: str | Observer = "auto",
) -> StudyResult:
    """Run a study to its verdict, or what an earlier run left of it.

    Ctrl-C ends after the current block of questions; what was finished is kept, and the same call goes on.

    Args:
        study: A study file, its content as a mapping, or a loaded study.
        out: Folder of the study; default ``runs/NAME``.
        data: Questions from ``DATA/TASK/SPLIT.jsonl``, or ``hub``; default: what the study says.
        trials: Number of candidates, at least 1; default: what the study says.
        max_hours: Ask for no more candidates after so many hours.
        patience: Ask for no more candidates after so many without a new best.
        workers: Processes of this host, each with a model.
        ray: Score trials in Ray actors: True for a Ray started here, or the address of a cluster (``auto``, HOST:PORT).
        take_over: Lead also a study that a process of another host led, which is gone.
        search_on_test: Search on test questions, which is refused otherwise.
        device: Where models run: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        models_roots: Folders in which model names are looked up, besides ``MERGESEARCH_MODELS`` and the user's cache.
        progress: How it is shown: ``auto`` (a panel on a terminal or in a notebook, else lines), ``panel``, ``plain``,
            ``quiet``, ``json``; or an observer that hears of everything, and nothing is printed.

    Returns:
        The verdict, the trials as a table, the best recipe, and the folder in which everything is.

    Raises:
        InputError: An argument is wrong.
        search.errors.SearchError: The study, its store or its sampler is wrong, or candidates fail one after the other.
        merge.errors.MergeError: A parent is missing or does not fit.
        evals.errors.EvalError: A task, a metric or the data are wrong.
        KeyboardInterrupt: Ctrl-C.
    """
    roots = all_roots(models_roots)
    overrides = Overrides(
        data=None if data is None else str(data),
        trials=trials,
        max_hours=max_hours,
        search_on_test=search_on_test,
        patience=patience,
        workers=workers,
    )
    return run_loaded(
        overrides.apply(study),
        out,
        models_roots=roots,
        device=device,
        ray="local" if ray is True else ray or None,
        take_over=take_over,
        progress=progress,
    )


def run_loaded(
    study: LoadedStudy,
    out: str | Path | None = None,
    *,
    models_roots: Sequence[Path],
    device: str,
    ray: str | None = None,
    take_over: bool = False,
    progress: str | Observer = "auto",
) -> StudyResult:
    """Run a loaded study to its verdict; see `run`.

    Args:
        study: The study.
        out: Folder of the study; default ``runs/NAME``.
        models_roots: All folders in which model names are looked up.
        device: Where models run.
        ray: Address of a Ray cluster, ``local`` to start one; None for processes of this host.
        take_over: Lead also a study that a process of another host led, which is gone.
        progress: How it is shown.
    """
    if ray in (None, "local"):  # the nodes of a cluster may have what this host has not
        usable_device(device)
    folder = StudyFolder(Path(out) if out is not None else Path("runs") / study.file.study)
    if folder.root.exists() and not folder.root.is_dir():
        raise InputError(f"{folder.root}: must be a folder, is a file; choose another --out")
    uri = tracking_uri(study)
    renderer = make_renderer(progress, folder.root)
    if study.file.evaluate.search_on_test:
        renderer.note("searching on test questions: the verdict's scores are no estimate on anything new")
    observers: list[Observer] = [StudyCopy(study, folder), FolderWriter(folder), renderer]
    observers.append(ReportWriter(folder, renderer.note))
    if uri is not None:
        observers.append(MirrorObserver(open_mirror(study, folder, uri, renderer.note)))
    everyone = Everyone(observers)
    renderer.open(study.file.study)
    try:
        verdict = run_search(
            study,
            folder.root,
            observer=everyone,
            models_roots=models_roots,
            device=device,
            say=renderer.note,
            ray=ray,
            take_over=take_over,
        )
    finally:
        renderer.close()
    renderer.conclude(verdict, places_of(folder, uri), everyone.account())
    return StudyResult(study, folder.root, verdict)
