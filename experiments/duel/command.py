"""``mergesearch duel``: searches each family at the same budget, or takes recipes as they are, and lets them meet."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from experiments.atomic_files import write_text_atomically
from experiments.duel.comparison import Meeting, meet
from experiments.duel.competitors import champions, check_searched, given
from experiments.duel.page import duel_page
from experiments.duel.scoring import Arena, Fighter
from experiments.duel.text import duel_table, lines, quotable
from experiments.errors import InputError
from experiments.models_roots import models_roots as all_roots
from experiments.running.progress import ConsoleProgress
from experiments.running.run import Overrides, show_study
from experiments.score_tables import to_csv
from search.objective.objective import Objective
from search.study.study import LoadedStudy


@dataclass(frozen=True)
class Duel:
    """What a duel found.

    Attributes:
        study: Name of the study.
        quote: The sentence that a person can quote: the first two contestants.
        fighters: Everyone with answers, contestants first.
        meetings: Contestants against each other, then each against the best parent and the merges among the baselines.
    """

    study: str
    quote: str
    fighters: tuple[Fighter, ...]
    meetings: tuple[Meeting, ...]


def run_duel(
    path: Path,
    *,
    overrides: Overrides,
    fixed: bool,
    models_roots: Sequence[Path] | None,
    out: Path | None,
    device: str,
) -> Duel:
    """Run or resume a duel, telling a person everything.

    Raises:
        InputError: The study does not make a duel.
        search.errors.SearchError: A search failed; the same command goes on.
        merge.errors.MergeError: A parent is missing or does not fit.
        evals.errors.EvalError: A task, a metric or the data are wrong.
    """
    study, roots = overrides.apply(path), all_roots(models_roots)
    root = out if out is not None else Path("runs") / f"{study.file.study}.duel"
    if root.exists() and not root.is_dir():
        raise InputError(f"{root}: must be a folder, is a file; choose another --out")
    console = Console(soft_wrap=True)
    arena = Arena(study, root, ConsoleProgress(console), models_roots=roots, device=device)
    if fixed or not any(family.dimensions for family in study.space.families.values()):
        contestants = given(study)
        arena.check()
    else:
        check_searched(study)
        arena.check()
        contestants = champions(study, root, partial(_search, console=console, roots=roots, device=device))
    console.print("\n[bold]Everyone[/] on the same test questions")
    objective, fighters, _ = arena.fight(contestants)
    duel = _judged(study, meetings_of(objective, fighters, study.file.search.seed), fighters)
    _write(root, duel)
    _print(console, root, duel)
    return duel


def _search(study: LoadedStudy, folder: Path, *, console: Console, roots: Sequence[Path], device: str) -> None:
    console.print(f"\n[bold]Family {escape(next(iter(study.space.families)))}[/]")
    show_study(study, models_roots=roots, out=folder, device=device)


def meetings_of(objective: Objective, fighters: Sequence[Fighter], seed: int) -> tuple[Meeting, ...]:
    """Let the contestants meet each other, then the best parent and every merge among the baselines."""
    contestants = [fighter for fighter in fighters if fighter.kind == "family"]
    parents = [fighter for fighter in fighters if fighter.kind == "parent"]
    best = max(parents, key=lambda fighter: fighter.value, default=None)
    others = [fighter for fighter in fighters if fighter.kind in ("merge", "known") or fighter is best]
    pairs = [*combinations(contestants, 2), *((one, other) for one in contestants for other in others)]
    return tuple(meet(objective, one, other, seed=seed) for one, other in pairs)


def _judged(study: LoadedStudy, meetings: tuple[Meeting, ...], fighters: tuple[Fighter, ...]) -> Duel:
    return Duel(study.file.study, quotable(meetings[0], fighters), fighters, meetings)


def _write(root: Path, duel: Duel) -> None:
    table = duel_table(duel.fighters, duel.meetings)
    write_text_atomically(root / "duel.md", f"{duel.quote}\n\n{table}")
    write_text_atomically(root / "duel.csv", to_csv(_frame(duel.meetings)))
    facts = {
        "study": duel.study,
        "quote": duel.quote,
        "contestants": [
            {
                "name": f.name, "kind": f.kind, "recipe": f.recipe.to_mapping(), "digest": f.recipe.digest(),
                "seeds": list(f.seeds), "objective": list(f.values), "trials": f.trials, "origin": f.origin,
                "scores": [{name: score.value for name, score in results.scores.items()} for results in f.results],
            }
            for f in duel.fighters
        ],
        "meetings": [asdict(meeting) for meeting in duel.meetings],
    }  # fmt: skip
    write_text_atomically(root / "duel.json", json.dumps(facts, indent=2) + "\n")
    write_text_atomically(root / "duel.html", duel_page(duel.study, duel.quote, duel.fighters, duel.meetings))


def _frame(meetings: Sequence[Meeting]) -> pd.DataFrame:
    rows = [
        {
            "one": meeting.one, "other": meeting.other, "score": row.score, "score of one": row.one,
            "score of other": row.other, "difference": row.difference.estimate, "low": row.difference.low,
            "high": row.difference.high, "test": row.test, "p": row.p_value, "questions": row.questions,
            "detectable": row.detectable, "outcome": row.outcome,
        }
        for meeting in meetings
        for row in meeting.rows
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _print(console: Console, root: Path, duel: Duel) -> None:
    console.print("\n[bold]Duel[/]")
    console.print(escape(duel.quote), highlight=False)
    console.print()
    for line in lines(duel.meetings):
        console.print(escape(line), highlight=False)
    console.print()
    table = duel_table(duel.fighters, ())
    console.print(Markdown(table) if console.is_terminal else escape(table), highlight=False)
    for what, name in (("table", "duel.md"), ("numbers", "duel.csv"), ("page with plot", "duel.html")):
        console.print(f"  {what:15s} {escape(str(root / name))}", highlight=False)
