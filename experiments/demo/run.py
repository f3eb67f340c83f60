"""The demo: gets the base model, then runs the embedded study, on its own questions or on the real benchmarks."""

from functools import partial
from pathlib import Path

import typer

from experiments.demo.base_model import BASE_MODEL, ensure_base_model
from experiments.devices import usable_device
from experiments.errors import InputError
from experiments.running.overrides import Overrides
from experiments.running.run import run_loaded
from search.study.study import LoadedStudy

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
EMBEDDED = HERE / "study.yaml"
BENCHMARKS = HERE.parent / "studies" / "math-science.yaml"


def run_demo(
    *,
    data: str | None,
    out: Path | None,
    trials: int | None,
    base: Path | None,
    device: str,
    progress: str = "auto",
) -> None:
    """Run the embedded study end to end.

    Args:
        data: ``hub``, a folder of benchmark data, or None for the embedded questions.
        out: Folder of the study.
        trials: Budget, instead of the study's.
        base: A models root to use instead of the cache.
        device: Where the live model runs.
        progress: How it is shown, as `experiments.run` takes it.

    Raises:
        InputError: ``base`` is no folder of the base model.
    """
    study = demo_study(data=data, trials=trials)
    usable_device(device)
    root = (
        _given_root(base)
        if base is not None
        else ensure_base_model(say=partial(typer.echo, err=progress in ("quiet", "json")))
    )
    run_loaded(study, out, models_roots=(root, REPOSITORY), device=device, progress=progress)


def demo_study(*, data: str | None, trials: int | None) -> LoadedStudy:
    """Return the embedded study; with ``data``, the one on the benchmarks that its questions are modelled on."""
    path = EMBEDDED if data is None else BENCHMARKS
    return Overrides(data=data, trials=trials).apply(path)


def _given_root(base: Path) -> Path:
    """Return the folder in which ``base`` is found under the base model's name."""
    folder = base.resolve()
    if (folder / BASE_MODEL / "config.json").is_file():
        return folder
    if (folder / "config.json").is_file() and folder.parts[-2:] == tuple(BASE_MODEL.split("/")):
        return folder.parent.parent
    raise InputError(f"--base {base}: must be a folder that holds {BASE_MODEL}, or that folder itself")
