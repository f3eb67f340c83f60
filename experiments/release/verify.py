"""Checks a finished study: is everything it was made of still the same, and does its winner score the same again?"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import typer
from safetensors import safe_open

from evals.engines.live.engine import LiveScorer
from evals.errors import DataError
from evals.evaluation import Evaluation
from evals.scores.results import Results
from evals.suites import load_suite
from evals.tasks.loading import LoadedTask, load_tasks
from evals.tasks.sampling import Leaf, QuestionSets
from experiments.errors import InputError
from experiments.models_roots import models_roots as all_roots
from experiments.study_folder.folder import StudyFolder, find_finished, read_verdict
from experiments.study_folder.versions import library_versions
from merge.errors import CheckpointError
from merge.execution.live_state import destinations
from merge.live_model import load_tokenizer, new_live_model
from merge.merger import Merger
from merge.recipe.schema import Recipe, load_recipes
from search.results.verdict import Verdict
from search.storage.store import Store
from search.study.study import LoadedStudy, load_study

TOLERANCE = 1e-4
"""Largest difference of a likelihood, relative to values above 1, that other hardware may cause."""


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        what: Its name.
        told: What was found, when it is the same.
        differences: What differs; empty when nothing does.
    """

    what: str
    told: str
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Case:
    """A finished study, opened.

    Attributes:
        folder: Its folder.
        study: Its file.
        store: Its store.
        recipe: The winner's recipe, as ``best.yaml`` holds it.
        verdict: The verdict.
        sets: The recorded questions.
        merger: Opens the parents as they are now.
    """

    folder: StudyFolder
    study: LoadedStudy
    store: Store
    recipe: Recipe
    verdict: Verdict
    sets: QuestionSets
    merger: Merger


def verify_study(
    study: Path, *, model: Path | None, data: str | None, models_roots: Sequence[Path] | None, device: str
) -> bool:
    """Check a study and tell what was found, one line each; return whether everything is the same.

    Args:
        study: Its folder.
        model: An exported model folder to compare with the rebuilt weights.
        data: Where the questions are now; None for where they were.
        models_roots: Folders in which model names are looked up.
        device: Where the live model runs.

    Raises:
        InputError: The folder holds no finished study.
        merge.errors.MergeError: A parent of the winner is missing.
        evals.errors.EvalError: The questions cannot be read.
    """
    case = _open(find_finished(study), all_roots(models_roots), device)
    same = True
    for finding in _findings(case, model, data, device):
        same = same and not finding.differences
        typer.echo(f"{'same' if not finding.differences else 'DIFFERS':8s} {finding.what}: {finding.told}")
        for line in finding.differences:
            typer.echo(f"           {line}")
    typer.echo("verified: nothing differs" if same else "not verified: see what differs above")
    return same


def _open(folder: StudyFolder, roots: tuple[Path, ...], device: str) -> _Case:
    study = load_study(folder.study)
    store = Store(folder.store_url(study), study)
    questions = store.pinned("questions")
    if not isinstance(questions, str):
        raise InputError(f"{folder.root}: has no recorded questions; run 'mergesearch search' on its study file first")
    (recipe,) = load_recipes(folder.best)
    merger = Merger(roots, seed=study.file.search.seed, device=device)
    return _Case(folder, study, store, recipe, read_verdict(folder), QuestionSets.from_json(questions), merger)


def _findings(case: _Case, model: Path | None, data: str | None, device: str) -> Iterator[Finding]:
    yield _recipe(case)
    yield _parents(case)
    yield _versions(case.folder)
    tasks = _tasks(case, data)
    questions = _questions(case, tasks)
    yield questions
    yield from _rebuilt(case, tasks, model, device, asks=not questions.differences)


def _recipe(case: _Case) -> Finding:
    digest, recorded = case.recipe.digest(), case.verdict.digest
    differs = (f"best.yaml has {digest}, the verdict {recorded}",) if digest != recorded else ()
    return Finding("recipe", f"SHA-256 {digest[:16]}", differs)


def _parents(case: _Case) -> Finding:
    recorded = case.store.pinned("parents")
    recorded = recorded if isinstance(recorded, dict) else {}
    differences = []
    for reference, fingerprint in recorded.items():
        try:
            now = case.merger.checkpoint(reference).fingerprint()
        except CheckpointError as error:
            differences.append(str(error).splitlines()[0])
            continue
        if now != fingerprint:
            differences.append(f"{reference}: was {fingerprint[:16]}, is {now[:16]}")
    return Finding("parents", f"{len(recorded)} models by the SHA-256 of their weights", tuple(differences))


def _versions(folder: StudyFolder) -> Finding:
    if not folder.versions.is_file():
        return Finding("versions", "not recorded by the version that ran this study")
    recorded = json.loads(folder.versions.read_text(encoding="utf-8"))
    now = library_versions()
    differences = tuple(
        f"{name}: was {recorded.get(name, 'not there')}, is {now.get(name, 'not there')}"
        for name in dict.fromkeys([*recorded, *now])
        if recorded.get(name) != now.get(name)
    )
    return Finding("versions", f"{len(recorded)} libraries", differences)


def _tasks(case: _Case, data: str | None) -> tuple[LoadedTask, ...]:
    section = case.study.file.evaluate
    specs = section.tasks if section.suite is None else load_suite(section.suite).tasks
    place = section.data if data is None else data
    return load_tasks(
        specs,
        data=None if place == "hub" else Path(place),
        include_path=None if section.include_path is None else Path(section.include_path),
        place=f"{case.folder.study}: evaluate.tasks",
    )


def _questions(case: _Case, tasks: Sequence[LoadedTask]) -> Finding:
    """Compare the hash of every recorded question with that of the row in its place."""
    leaves = {task.name: Leaf.of(task) for task in tasks}
    every = [*case.sets.search, *case.sets.selection, *case.sets.test]
    changed: Counter[str] = Counter()
    for question in every:
        try:
            ids = leaves[question.task].split(question.split).ids
        except (KeyError, DataError):
            ids = ()
        changed[question.task] += question.index >= len(ids) or ids[question.index] != question.id
    differences = tuple(
        f"{task}: {count} questions are no longer in their place" for task, count in changed.items() if count
    )
    return Finding("questions", f"{len(every)} by hash ({case.sets.digest()[:16]})", differences)


def _rebuilt(
    case: _Case, tasks: Sequence[LoadedTask], exported: Path | None, device: str, *, asks: bool
) -> Iterator[Finding]:
    model = new_live_model(case.merger, case.recipe, device=device)
    case.merger.merge_live(case.recipe, model, seed=case.study.file.search.seed)
    if exported is not None:
        yield _weights(case, model, exported)
    if not asks:
        yield Finding("scores", "not measured: the questions differ", ("restore the data to score again",))
        return
    section, tokenizer = case.study.file.evaluate, load_tokenizer(case.merger, case.recipe)
    evaluation = Evaluation.build(
        tasks,
        case.sets.test,
        tokenizer=tokenizer,
        metrics=section.verdict,
        apply_chat_template=section.apply_chat_template,
        system_instruction=section.system_instruction,
        fewshot_as_multiturn=section.fewshot_as_multiturn,
        keep_apart=[*case.sets.search, *case.sets.selection, *case.sets.test],
    )
    yield from _scores(case, evaluation.run(LiveScorer(model, tokenizer)))


def _weights(case: _Case, model: torch.nn.Module, exported: Path) -> Finding:
    """Compare exported weights with the rebuilt ones, bit for bit."""
    targets = destinations(model, case.merger.plan(case.recipe))
    differences = []
    seen = set()
    for file in sorted(exported.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in set(tensors.keys()) & set(targets):
                seen.add(name)
                if not torch.equal(tensors.get_tensor(name).to(targets[name].dtype), targets[name].cpu()):
                    differences.append(f"{name} in {file.name}")
    differences += [f"{name}: missing in {exported}" for name in sorted(set(targets) - seen)]
    return Finding("weights", f"{len(seen)} tensors of {exported}", tuple(differences))


def _scores(case: _Case, results: Results) -> Iterator[Finding]:
    """Compare answers and scores on the test questions with the recorded ones."""
    found = case.store.recall("test", case.recipe.digest(), case.sets.test)
    if found is None:
        yield Finding("answers", "none are recorded for this recipe", ("the store holds no test answers of best.yaml",))
        return
    recorded = found[0].results
    keys = ["task", "leaf", "question", "metric"]
    both = recorded.answers.merge(results.answers, on=keys, how="outer", suffixes=("_was", "_is"))
    off = both[_differ(both["value_was"], both["value_is"])]
    lines = tuple(
        f"{metric} of {task}: {len(rows)} answers, by up to {(rows['value_was'] - rows['value_is']).abs().max():.3g}"
        for (task, metric), rows in off.groupby(["task", "metric"])
    )
    yield Finding("answers", f"{len(both)} on {both['question'].nunique()} test questions", lines)
    scores = {name: (score.value, results.scores[name].value) for name, score in recorded.scores.items()}
    moved = tuple(
        f"{name}: was {was:.6f}, is {now:.6f}" for name, (was, now) in scores.items() if abs(was - now) > TOLERANCE
    )
    yield Finding("scores", ", ".join(f"{name} {now:.4f}" for name, (_, now) in scores.items()), moved)


def _differ(was: "pd.Series[float]", now: "pd.Series[float]") -> "pd.Series[bool]":
    """Return which values differ by more than the tolerance, or stand on one side alone."""
    allowed = TOLERANCE * was.abs().clip(lower=1.0)
    return ((was - now).abs() > allowed) | (was.isna() != now.isna())
