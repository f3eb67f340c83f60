"""Where a finished study leaves its files, and a command to look at each."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.study_folder.folder import StudyFolder
from experiments.tracking.address import how_to_open


@dataclass(frozen=True)
class Place:
    """One thing that a study left.

    Attributes:
        name: What it is.
        location: A path, a URL, or ``not written``.
        command: A command, or an address for a browser, to look at it or to make it; empty where any editor will do.
    """

    name: str
    location: str
    command: str = ""


def places_of(folder: StudyFolder, tracking_uri: str | None) -> list[Place]:
    """Return what a finished study left, the most looked at first.

    Args:
        folder: Its folder.
        tracking_uri: Where MLflow's runs went; None where nothing was tracked.
    """
    mergesearch = _program("mergesearch")
    rows = [
        Place("report", str(folder.report), f"{_program('python')} -m webbrowser {folder.report}"),
        Place("recipe", str(folder.best)),
        Place("answers", str(folder.answers)),
        Place("trials", str(folder.trials)),
    ]
    if folder.front.is_dir():
        rows.append(Place("Pareto front", str(folder.front), f"{mergesearch} merge {folder.front / '1.yaml'} merged"))
    if tracking_uri is not None:
        rows.append(Place("MLflow", tracking_uri, how_to_open(tracking_uri, _program("mlflow"))))
    rows.append(Place("weights", "not written", f"{mergesearch} export {folder.root} --model merged"))
    return rows


def place_lines(places: Sequence[Place], width: int | None) -> list[str]:
    """Return the places as lines: name, location, command; the command has a line of its own where it does not fit.

    Args:
        places: What to tell.
        width: Columns of the terminal; None where lines may have any length.
    """
    names, locations = (max(map(len, column)) for column in zip(*((p.name, p.location) for p in places), strict=True))
    lines = []
    for place in places:
        line = f"  {place.name:{names}}  {place.location:{locations}}  {place.command}"
        if width is None or not place.command or len(line) <= width:
            lines.append(line.rstrip())
        else:
            lines += [f"  {place.name:{names}}  {place.location}", f"  {'':{names}}  {place.command}"]
    return lines


def _program(name: str) -> str:
    """Return how to call a program of this environment: by its name where the environment is active, else by path."""
    mine = Path(sys.executable).parent / name
    found = shutil.which(name)
    if not mine.exists() or (found is not None and Path(found).parent == mine.parent):
        return name
    return str(mine.relative_to(Path.cwd())) if mine.is_relative_to(Path.cwd()) else str(mine)
