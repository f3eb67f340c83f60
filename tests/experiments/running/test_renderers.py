"""What each renderer shows of one made-up search: aligned, never wider than the terminal; JSON for programs."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from experiments.errors import InputError
from experiments.running.json_lines import JsonRenderer
from experiments.running.panel import PanelRenderer
from experiments.running.places import Place, place_lines
from experiments.running.plain import PlainRenderer
from experiments.running.quiet import QuietRenderer
from experiments.running.renderer import AbstractRenderer
from experiments.running.renderers import make_renderer
from search.results.observer import Outlook
from tests.experiments.running.records import OUTLOOK, baseline, record, verdict

PLACES = (Place("recipe", "runs/tiny/best.yaml"), Place("weights", "not written", "mergesearch export runs/tiny"))
LONG = "a family with a very long name that no column of a terminal would hold"


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=True, legacy_windows=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def play(renderer: AbstractRenderer, outlook: Outlook = OUTLOOK) -> None:
    renderer.open("tiny")
    renderer.started(outlook)
    for scored in (
        baseline("base", 0.4), baseline("equal weights", 0.41), record(0, 0.42), record(1, family=LONG),
        record(2, 0.5), record(3, state="failed", reason="nan in model.norm"),
        baseline("base", 0.4, part="test"),
    ):  # fmt: skip
        renderer.scored(scored)
    renderer.note("a note")
    renderer.finished(verdict())
    renderer.close()
    renderer.conclude(verdict(), PLACES, "seconds per trial: score 1.00")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (100, 12)])
def test_the_panel_fits_the_terminal_and_its_columns_are_aligned(width: int, height: int) -> None:
    console = terminal(width, height)
    panel = PanelRenderer(console)
    panel.started(Outlook("tiny", OUTLOOK.baselines, 40, 0, OUTLOOK.counts, [f"task{n}/acc" for n in range(12)]))
    for number in range(30):
        panel.scored(record(number, 0.1 if number % 2 else None, family=LONG if number % 3 else "ties"))
    with console.capture() as capture:
        console.print(panel.picture())
    panel.close()
    lines = Text.from_ansi(capture.get()).plain.splitlines()
    assert len(lines) < height
    assert {len(line) for line in lines} == {min(width - 2, 120)}


def test_the_panel_shows_phase_best_baseline_and_the_last_trials() -> None:
    console = terminal()
    panel = PanelRenderer(console)
    panel.open("tiny")
    panel.started(OUTLOOK)
    for scored in (baseline("base", 0.4), baseline("equal weights", 0.41), record(0, 0.42), record(1)):
        panel.scored(scored)
    with console.capture() as capture:
        console.print(panel.picture())
    panel.close()
    text = Text.from_ansi(capture.get()).plain
    for words in ("study tiny", "trials 2/4", "equal weights", "trial 0", "+0.0100", "best so far", "stopped after 4"):
        assert words in text


def test_the_panel_gives_the_terminal_back() -> None:
    console = terminal()
    play(PanelRenderer(console))
    out = printed(console)
    assert out.rindex("\x1b[?25h") > out.rindex("\x1b[?25l"), "the cursor must be shown again"
    assert "study tiny: 4 of 4 trials" in out
    assert "Where things are" in out


def test_plain_lines_are_one_an_event() -> None:
    console = Console(file=io.StringIO(), width=80)
    play(PlainRenderer(console))
    lines = printed(console).splitlines()
    assert lines[0].startswith("study tiny: 4 trials; questions: 8 to search on")
    assert len([line for line in lines if line.startswith(("baseline ", "trial "))]) == 7
    assert "stopped: after 4 questions" in "\n".join(lines)
    assert "\x1b" not in printed(console)


def test_quiet_is_the_verdict_alone() -> None:
    out, err = Console(file=io.StringIO(), width=80), Console(file=io.StringIO(), width=80)
    play(QuietRenderer(out, err))
    assert printed(err) == "a note\n"
    lines = printed(out).splitlines()
    assert lines[0].startswith("Verdict")
    assert lines[1] == "winner: trial 2, family ties: objective 0.4500 on 6 test questions"
    assert [line.split()[-1] for line in lines if line.startswith(("base", "equal"))] == ["better", "differ"]
    assert "Where things are" not in printed(out)


@pytest.mark.parametrize("width", [80, 100])
def test_the_verdict_is_one_line_per_comparison_at_any_width(width: int) -> None:
    console = terminal(width)
    play(QuietRenderer(console, Console(file=io.StringIO())))
    lines = Text.from_ansi(printed(console)).plain.splitlines()
    assert all("…" not in line for line in lines)
    assert max(map(len, lines)) <= width
    assert sum(line.startswith(("base", "equal")) for line in lines) == 2


def test_json_lines_are_objects_in_the_documented_order() -> None:
    out = io.StringIO()
    play(JsonRenderer("runs/tiny", out, clock=lambda: 1.0))
    events = [json.loads(line, parse_constant=_refused) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["started", *["scored"] * 7, "note", "verdict", "places"]
    assert events[4]["state"] == "stopped"
    assert events[4]["objective"] is None
    assert events[-2]["comparisons"][1]["shown"] == "not shown to differ"
    assert events[-1]["places"][0]["location"] == "runs/tiny/best.yaml"


def _refused(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def test_numbers_that_json_lacks_are_null() -> None:
    out = io.StringIO()
    renderer = JsonRenderer("x", out, clock=lambda: 1.0)
    renderer.started(OUTLOOK)
    renderer.scored(record(0, float("nan")))
    assert json.loads(out.getvalue().splitlines()[-1], parse_constant=_refused)["objective"] is None


def test_a_command_that_does_not_fit_has_its_own_line() -> None:
    places = [Place("MLflow", "sqlite:///mlflow.db", "mlflow ui --backend-store-uri sqlite:///mlflow.db")]
    assert len(place_lines(places, None)) == 1
    assert place_lines(places, 60) == [
        "  MLflow  sqlite:///mlflow.db",
        "          mlflow ui --backend-store-uri sqlite:///mlflow.db",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("auto", PlainRenderer), ("panel", PanelRenderer), ("quiet", QuietRenderer), ("json", JsonRenderer)],
)
def test_renderers_have_names(name: str, kind: type) -> None:
    assert type(make_renderer(name, Path("runs/x"))) is kind


def test_an_unknown_renderer_is_bad_input() -> None:
    with pytest.raises(InputError, match="progress: must be one of auto, panel, plain, quiet, json"):
        make_renderer("loud", Path("runs/x"))
