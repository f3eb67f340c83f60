"""``mergesearch duel``: searches each family at the same budget (or takes fixed recipes), scores and compares them."""

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
from experiments.duel.comparison import PairComparison, compare_pair
from experiments.duel.competitors import check_searched, plain_recipes, search_families
from experiments.duel.page import duel_page
from experiments.duel.scoring import DuelScorer, ScoredCompetitor
from experiments.duel.text import comparison_lines, duel_table, headline
from experiments.errors import InputError
from experiments.models_roots import models_roots as all_roots
from experiments.running.overrides import Overrides
from experiments.running.plain import PlainRenderer
from experiments.running.run import run_loaded
from experiments.score_tables import to_csv
from search.objective.objective import Objective
from search.study.study import LoadedStudy


@dataclass(frozen=True)
class Duel:
    """What a duel found.

    Attributes:
        study: Name of the study.
        quote: The sentence to quote, about the first two competitors.
        scored: The competitors, then the baselines, with their answers.
        comparisons: Competitors in pairs, then each against the best parent and every merge among the baselines.
    """

    study: str
    quote: str
    scored: tuple[ScoredCompetitor, ...]
    comparisons: tuple[PairComparison, ...]


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
    scorer = DuelScorer(study, root, PlainRenderer(console), models_roots=roots, device=device)
    if fixed or not any(family.dimensions for family in study.space.families.values()):
        competitors = plain_recipes(study)
        scorer.check()
    else:
        check_searched(study)
        scorer.check()
        competitors = search_families(study, root, partial(_search, console=console, roots=roots, device=device))
    console.print("\n[bold]Everyone[/] on the same test questions")
    objective, scored = scorer.score_all(competitors)
    comparisons = compare_all(objective, scored, study.file.search.seed)
    duel = Duel(study.file.study, headline(comparisons[0], scored), scored, comparisons)
    _write(root, duel)
    _print(console, root, duel)
    return duel


def _search(study: LoadedStudy, folder: Path, *, console: Console, roots: Sequence[Path], device: str) -> None:
    console.print(f"\n[bold]Family {escape(next(iter(study.space.families)))}[/]")
    run_loaded(study, folder, models_roots=roots, device=device)


def compare_all(objective: Objective, scored: Sequence[ScoredCompetitor], seed: int) -> tuple[PairComparison, ...]:
    """Compare the competitors in pairs, then each with the best parent and with every merge among the baselines."""
    competitors = [one for one in scored if one.kind == "family"]
    parents = [one for one in scored if one.kind == "parent"]
    best = max(parents, key=lambda one: one.value, default=None)
    others = [one for one in scored if one.kind in ("merge", "known") or one is best]
    pairs = [*combinations(competitors, 2), *((one, other) for one in competitors for other in others)]
    return tuple(compare_pair(objective, one, other, seed=seed) for one, other in pairs)


def _write(root: Path, duel: Duel) -> None:
    table = duel_table(duel.scored, duel.comparisons)
    write_text_atomically(root / "duel.md", f"{duel.quote}\n\n{table}")
    write_text_atomically(root / "duel.csv", to_csv(_frame(duel.comparisons)))
    facts = {
        "study": duel.study,
        "quote": duel.quote,
        "competitors": [
            {
                "name": one.name, "kind": one.kind, "recipe": one.recipe.to_mapping(), "digest": one.recipe.digest(),
                "seeds": list(one.seeds), "objective": list(one.values), "trials": one.trials, "origin": one.origin,
                "scores": [{name: score.value for name, score in results.scores.items()} for results in one.results],
            }
            for one in duel.scored
        ],
        "comparisons": [asdict(comparison) for comparison in duel.comparisons],
    }  # fmt: skip
    write_text_atomically(root / "duel.json", json.dumps(facts, indent=2) + "\n")
    write_text_atomically(root / "duel.html", duel_page(duel.study, duel.quote, duel.scored, duel.comparisons))


def _frame(comparisons: Sequence[PairComparison]) -> pd.DataFrame:
    rows = [
        {
            "one": comparison.one, "other": comparison.other, "score": row.score, "score of one": row.one,
            "score of other": row.other, "difference": row.difference.estimate, "low": row.difference.low,
            "high": row.difference.high, "test": row.test, "p": row.p_value, "questions": row.questions,
            "detectable": row.detectable, "outcome": row.outcome,
        }
        for comparison in comparisons
        for row in comparison.rows
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _print(console: Console, root: Path, duel: Duel) -> None:
    console.print("\n[bold]Duel[/]")
    console.print(escape(duel.quote), highlight=False)
    console.print()
    for line in comparison_lines(duel.comparisons):
        console.print(escape(line), highlight=False)
    console.print()
    table = duel_table(duel.scored, ())
    console.print(Markdown(table) if console.is_terminal else escape(table), highlight=False)
    for what, name in (("table", "duel.md"), ("numbers", "duel.csv"), ("page with plot", "duel.html")):
        console.print(f"  {what:15s} {escape(str(root / name))}", highlight=False)
