"""Writes a study's report: ``report.html`` and its tables, each file whole or not at all."""

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from evals.scores.statistics import Interval
from experiments.atomic_files import write_text_atomically
from experiments.number_format import TESTS, duration, p_value, score, signed
from experiments.report import figures as draw
from experiments.report.cost import cost_table, savings
from experiments.report.depth import curves, in_layers
from experiments.report.importance import importances
from experiments.report.parallel import parallel_coordinates
from experiments.report.questions import QuestionsWonAndLost, question_table, questions_won_and_lost
from experiments.report.render import Figures, render
from experiments.report.study_facts import Scoring, StudyFacts, gather_facts
from experiments.report.tables import score_table, write_tables
from experiments.study_folder.verdict_text import verdict_lines
from merge.recipe.schema import Recipe
from search.results.verdict import Verdict

MAX_QUESTIONS = 10
"""Questions per task that the page shows as won, and as many as lost; the table has all."""


def write_report(root: Path, data: Path | None = None) -> Path:
    """Write the report of the study in a folder; return its path.

    Args:
        root: The study's folder.
        data: Folder of benchmark data with the questions' texts; None for where the study read them.

    Raises:
        InputError: The folder is no study's.
        search.errors.StoreError: Its store cannot be opened or is empty.
        evals.errors.EvalError: The questions cannot be read from ``data``.
        OSError: The disk is full; an earlier report still stands.
    """
    facts = gather_facts(root)
    found = questions_won_and_lost(facts, data)
    path = root / "report.html"
    page = report_page(facts, found)
    write_tables(root / "tables", _tables(facts, found))
    write_text_atomically(path, page)
    return path


def report_figures(root: Path) -> dict[str, go.Figure]:
    """Return a finished study's figures by name, as MLflow shows them one at a time.

    Raises:
        InputError: The folder is no study's.
        search.errors.StoreError: Its store cannot be opened or is empty.
    """
    facts = gather_facts(root)
    figures = {"history": draw.history(facts.trials, facts.baselines, facts.searched_on)}
    for found in importances(facts):
        of_family = [scoring for scoring in facts.trials if scoring.record.family == found.family]
        figures[f"holes of {found.family}"] = parallel_coordinates(of_family)
    return {name: draw.on_paper(figure) for name, figure in figures.items() if figure is not None}


def report_page(facts: StudyFacts, found: QuestionsWonAndLost | None) -> str:
    """Return the page of a study."""
    figures = Figures()
    verdict, settings = facts.verdict, facts.study.file.search
    values: dict[str, Any] = {
        "study": facts.study.file.study,
        "families": list(facts.study.space.families),
        "trials": len(facts.trials),
        "sampler": settings.sampler,
        "seed": settings.seed,
        "when": _when(facts),
        "verdict_lines": [] if verdict is None else _headlines(verdict),
        "history": figures.add("history", draw.history(facts.trials, facts.baselines, facts.searched_on)),
        "tally": _tally(facts),
        "failures": [e.record for e in facts.trials if e.record.state == "failed"],
        "holes": list(_holes(facts, figures)),
        "map": found,
        "most": MAX_QUESTIONS,
        "cost": cost_table(facts),
        "savings": savings(facts),
        "per_trial": duration(median([e.record.ended - e.record.started for e in facts.trials] or [0.0])),
        "recipe": "" if verdict is None else verdict.recipe_yaml,
        **_verdict_values(facts, figures),
    }
    values["sections"] = list(_sections(values))
    return render("report.html", figures, values)


def _verdict_values(facts: StudyFacts, figures: Figures) -> dict[str, Any]:
    """Return the template values that only a finished study has."""
    verdict = facts.verdict
    if verdict is None:
        return {
            "table": None,
            "against": [],
            "depth": [],
            "flat": [],
            "masks": None,
            "front": None,
            "winner_column": "",
            "best_parent": "",
        }
    titles = {name: f"winner ({name})" if name == verdict.winner else name for name in verdict.scores}
    columns = {titles[name]: scores for name, scores in verdict.scores.items()}
    return {
        "table": score_table(columns, verdict.higher_is_better),
        "winner_column": titles[verdict.winner],
        "best_parent": verdict.best_parent,
        "test_count": verdict.counts.get("test", 0),
        "against": list(_differences(verdict)),
        "level": f"{verdict.comparisons[0].objective.level:.0%}" if verdict.comparisons else "",
        **_depth(verdict, figures),
        "masks": _masks(verdict, figures),
        "front": _front(facts, verdict, figures),
    }


def _sections(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    all_sections = (
        ("scores", "Scores", "table"), ("differences", "Differences", "against"), ("history", "History", ""),
        ("holes", "What mattered", ""), ("depth", "Depth", "recipe"), ("masks", "Masks", "masks"),
        ("front", "Pareto front", "front"), ("questions", "Questions", "map"), ("cost", "Cost", ""),
        ("recipe", "Recipe", "recipe"), ("terms", "Terms", ""),
    )  # fmt: skip
    for anchor, title, needs in all_sections:
        if not needs or values[needs]:
            yield anchor, title


def _headlines(verdict: Verdict) -> list[str]:
    """Return the verdict's sentences without its numbers by task, which stand in a table."""
    lines = [line for line in verdict_lines(verdict) if not line.startswith("  ")]
    return [f"{line[0].upper()}{line[1:]}." for line in lines if not line.startswith(("random masks", "Pareto"))]


def _when(facts: StudyFacts) -> str:
    ended = max((scoring.record.ended for scoring in facts.scorings), default=0.0)
    return f"{dt.datetime.fromtimestamp(ended, dt.UTC):%Y-%m-%d %H:%M} UTC" if ended else ""


def _tally(facts: StudyFacts) -> str:
    states = [scoring.record.state for scoring in facts.trials]
    full, stopped, failed = (states.count(state) for state in ("complete", "stopped", "failed"))
    return f"{full} trials answered every search question, {stopped} were stopped by the race, {failed} failed."


def _holes(facts: StudyFacts, figures: Figures) -> Iterator[dict[str, Any]]:
    for index, found in enumerate(importances(facts)):
        of_family = [scoring for scoring in facts.trials if scoring.record.family == found.family]
        lines = parallel_coordinates(of_family)
        holes = len({name for scoring in of_family for name in scoring.record.params})
        yield {
            "name": found.family,
            "trials": found.trials,
            "remark": found.remark,
            "bars": figures.add(f"importance {index}", draw.importance_bars(found) if found.shares else None),
            "lines": figures.add(f"lines {index}", lines),
            "width": 90 * (holes + 1),
        }


def _depth(verdict: Verdict, figures: Figures) -> dict[str, Any]:
    """Return a figure for every parameter that changes over depth, and the curves of those that do not."""
    recipe = Recipe.from_mapping(dict(verdict.recipe), place="verdict.json: recipe")
    layers, found = in_layers(recipe), curves(recipe)
    changing = list(dict.fromkeys(curve.parameter for curve in found if len(set(curve.values)) > 1))
    drawn = [
        {
            "parameter": parameter,
            "figure": figures.add(f"depth {parameter}", draw.over_depth(found, parameter, layers=layers)),
        }
        for parameter in changing
    ]
    return {"depth": drawn, "flat": [curve for curve in found if curve.parameter not in changing]}


def _masks(verdict: Verdict, figures: Figures) -> dict[str, Any] | None:
    masks = verdict.masks
    if masks is None or not masks.values:
        return None
    opponent = verdict.best_parent, verdict.scores[verdict.best_parent]["objective"]
    everything = [verdict.test_value, *masks.values]
    mean = sum(everything) / len(everything)
    spread = math.sqrt(sum((value - mean) ** 2 for value in everything) / (len(everything) - 1))
    better = sum(value > opponent[1] for value in everything)
    words = (
        f"The winner drops weights of its task vectors at random. With its own mask and {len(masks.values)} others "
        "the objective is "
        f"{mean:.4f} ± {spread:.4f} (standard deviation), {min(everything):.4f} to {max(everything):.4f}; "
        f"{better} of the {len(everything)} masks beat {opponent[0]} ({opponent[1]:.4f})."
    )
    return {"words": words, "figure": figures.add("masks", draw.mask_values(masks, verdict.test_value, opponent))}


def _front(facts: StudyFacts, verdict: Verdict, figures: Figures) -> dict[str, Any] | None:
    if not verdict.front:
        return None
    full = [scoring for scoring in facts.trials if scoring.record.state == "complete"]
    table = score_table({point.name: point.scores for point in verdict.front}, verdict.higher_is_better)
    return {"figure": figures.add("front", draw.front_points(verdict.front, full, verdict.winner)), "table": table}


@dataclass(frozen=True)
class _Difference:
    """A row of the table of differences, as text."""

    score: str
    opponent: str
    estimate: str
    interval: str
    judgement: str
    test: str = ""
    p: str = ""
    questions: str = ""
    detectable: str = ""


def _differences(verdict: Verdict) -> Iterator[_Difference]:
    """Go through the differences from the best parent and from every merge among the baselines."""
    shown = [c for c in verdict.comparisons if c.opponent == verdict.best_parent or c.opponent not in verdict.models]
    for comparison in shown:
        yield _Difference("objective", comparison.opponent, *_interval(comparison.objective))
        for task in comparison.tasks:
            yield _Difference(
                task.task if task.higher_is_better else f"{task.task} ↓",
                comparison.opponent,
                *_interval(task.difference, higher=task.higher_is_better),
                TESTS[task.test],
                p_value(task.p_value),
                str(task.questions),
                score(task.detectable, 3) if task.detectable > 0 else "all alike",
            )


def _interval(interval: Interval, *, higher: bool = True) -> tuple[str, str, str]:
    up, down = interval.low > 0, interval.high < 0
    judgement = ("better" if up == higher else "worse") if up or down else ""
    ends = f"{signed(interval.low)} to {signed(interval.high)}"
    return signed(interval.estimate), ends, judgement


def _tables(facts: StudyFacts, found: QuestionsWonAndLost | None) -> dict[str, pd.DataFrame]:
    shares = [(one.family, name, share, one.trials) for one in importances(facts) for name, share in one.shares.items()]
    tables = {
        "cost": cost_table(facts),
        "importances": pd.DataFrame(shares, columns=["family", "hole", "share of variance", "trials"]),
        "history": _history_table(facts.trials),
    }
    verdict = facts.verdict
    if verdict is not None:
        recipe = Recipe.from_mapping(dict(verdict.recipe), place="verdict.json: recipe")
        rows = [
            (curve.parameter, curve.label, depth, value)
            for curve in curves(recipe)
            for depth, value in zip(curve.depth, curve.values, strict=True)
        ]
        columns = ["parameter", "of", "layer" if in_layers(recipe) else "depth", "value"]
        tables["depth"] = pd.DataFrame(rows, columns=columns)
        tables["scores"] = _score_frame(verdict)
        tables["differences"] = pd.DataFrame(list(_differences(verdict)))
    if found is not None:
        tables["questions"] = question_table(found)
    return tables


def _score_frame(verdict: Verdict) -> pd.DataFrame:
    table = pd.DataFrame({name: dict(scores) for name, scores in verdict.scores.items()})
    table.index.name = "metric"
    return table


def _history_table(trials: Sequence[Scoring]) -> pd.DataFrame:
    rows = [
        (e.record.number, e.record.family, e.record.state, e.asked, e.record.metrics.get("objective", math.nan))
        for e in trials
    ]
    return pd.DataFrame(rows, columns=["trial", "family", "state", "questions", "objective"])
