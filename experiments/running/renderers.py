"""Chooses how a search is shown: by name, by what standard output is, or an observer of the caller's own."""

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from experiments.errors import InputError
from experiments.running.json_lines import JsonRenderer
from experiments.running.panel import PanelRenderer
from experiments.running.places import Place
from experiments.running.plain import PlainRenderer
from experiments.running.quiet import QuietRenderer
from experiments.running.renderer import AbstractRenderer
from search.results.observer import Observer, Outlook, TrialRecord
from search.results.verdict import Verdict

NAMES = ("auto", "panel", "plain", "quiet", "json")


def make_renderer(progress: str | Observer, folder: Path) -> AbstractRenderer:
    """Return the renderer of a name, or one that passes on to an observer.

    Args:
        progress: ``auto``: a panel on a terminal, or in a notebook that has ipywidgets, else plain lines; ``panel``,
            ``plain``, ``quiet``, ``json``; or an observer, and nothing is printed.
        folder: The study's folder.

    Raises:
        InputError: There is no such renderer.
    """
    if not isinstance(progress, str):
        return ForwardingRenderer(progress)
    if progress not in NAMES:
        raise InputError(f"progress: must be one of {', '.join(NAMES)}, or an observer, got '{progress}'")
    console = Console()
    if progress == "auto":
        progress = "panel" if _can_draw(console) else "plain"
    if progress == "json":
        return JsonRenderer(str(folder))
    if progress == "quiet":
        return QuietRenderer(console)
    return PanelRenderer(console) if progress == "panel" else PlainRenderer(console)


def _can_draw(console: Console) -> bool:
    """Tell whether a picture can be drawn in place."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal


@dataclass
class ForwardingRenderer(AbstractRenderer):
    """Passes everything on to an observer and prints nothing; notes go to the log ``mergesearch``.

    Attributes:
        observer: Who hears of the search.
    """

    observer: Observer

    def open(self, study: str) -> None:
        """Show nothing yet."""

    def started(self, outlook: Outlook) -> None:
        """Pass on."""
        self.observer.started(outlook)

    def scored(self, record: TrialRecord) -> None:
        """Pass on."""
        self.observer.scored(record)

    def finished(self, verdict: Verdict) -> None:
        """Pass on."""
        self.observer.finished(verdict)

    def note(self, line: str) -> None:
        """Log a line."""
        logging.getLogger("mergesearch").info(line)

    def close(self) -> None:
        """Nothing is open."""

    def conclude(self, verdict: Verdict, places: Sequence[Place], account: str) -> None:
        """Print nothing."""
