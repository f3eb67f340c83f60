"""One contender of ``peers.py``, in a process of its own: its CPU time, that of its children included, is the clock."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from evals.lm_eval_files.reference_run import StockRun, gold_score
from search.loop.run import run_search
from search.objective.objective import Term
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Verdict
from search.study.study import LoadedStudy


@dataclass(frozen=True)
class ContenderTask:
    """How a contender is set up.

    Attributes:
        way: ``search`` runs the study; ``loop`` is what people write without this project.
        study: The study file.
        folder: Where the contender may write.
        seconds: CPU time after which no more candidates are asked for.
        questions: Folder of the task files that the loop asks.
        mergekit: The loop's ``mergekit-yaml``; None for our own disk merge, also as a process.
        batch_size: HFLM's in the loop.
    """

    way: str
    study: dict[str, Any]
    folder: str
    seconds: float
    questions: str
    mergekit: str | None
    batch_size: int


@dataclass(frozen=True)
class ScoredRecipe:
    """A recipe that answered every search question."""

    name: str
    kind: str
    value: float
    recipe: dict[str, Any]


@dataclass
class ContenderResult:
    """What a contender found.

    Attributes:
        recipes: Everyone who answered every search question, baselines among them.
        candidates: Number of candidates, those stopped early among them.
        stopped: Those stopped early.
        begun: CPU seconds before the first candidate: imports, prompts, and our baselines.
        spent: CPU seconds at the end of the last candidate.
        ends: CPU seconds at the end of each candidate.
    """

    recipes: list[ScoredRecipe] = field(default_factory=list)
    candidates: int = 0
    stopped: int = 0
    begun: float = 0.0
    spent: float = 0.0
    ends: list[float] = field(default_factory=list)

    def ended(self) -> None:
        """Note that a candidate is done."""
        self.candidates += 1
        self.spent = clock()
        self.ends.append(self.spent)


def clock() -> float:
    """Return the CPU seconds of this process and of its children that ended."""
    return sum(os.times()[:4])


@dataclass
class Watch:
    """An observer that keeps what was scored and presses Ctrl-C when the time is up."""

    seconds: float
    outcome: ContenderResult = field(default_factory=ContenderResult)
    answers: list[pd.DataFrame] = field(default_factory=list)

    def started(self, outlook: Outlook) -> None:
        """Hear of the study."""

    def scored(self, record: TrialRecord) -> None:
        """Keep a candidate; the search ends after the one in which the time is up."""
        if record.state == "complete":
            recipe = yaml.safe_load(record.recipe_yaml)
            self.outcome.recipes.append(ScoredRecipe(record.name, record.kind, record.metrics["objective"], recipe))
        if record.results is not None:
            self.answers.append(record.results.answers.assign(name=record.name, part=record.part))
        if record.kind == "baseline":
            self.outcome.begun = clock()
            return
        self.outcome.ended()
        self.outcome.stopped += record.state == "stopped"
        if self.outcome.spent > self.seconds:
            os.kill(os.getpid(), signal.SIGINT)

    def finished(self, verdict: Verdict) -> None:
        """Hear of the verdict, which a search that was interrupted has none of."""


def run_study(task: ContenderTask) -> ContenderResult:
    """Search with this project until the time is up; leave `answers.csv`, as a search does, for ``racing.py``."""
    watch = Watch(task.seconds)
    try:
        run_search(LoadedStudy(task.study, place="study"), Path(task.folder), observer=watch)
    except KeyboardInterrupt:
        pd.concat(watch.answers).to_csv(Path(task.folder) / "answers.csv", index=False)
        return watch.outcome
    raise RuntimeError("the budget of trials was spent before the time was up; raise it")


def run_loop(task: ContenderTask) -> ContenderResult:
    """Run Optuna's TPE over the same space: every candidate is written to disk and scored by lm-eval's HFLM."""
    import optuna

    study, folder, outcome = LoadedStudy(task.study, place="study"), Path(task.folder), ContenderResult()
    folder.mkdir()
    names = [file.stem for file in sorted(Path(task.questions).glob("*.yaml"))]
    stock = StockRun(Path(task.questions), task.batch_size)

    def objective(trial: optuna.Trial) -> float:
        outcome.begun = outcome.begun or clock()
        candidate = study.space.suggest(trial)
        recipe, merged = folder / "recipe.yaml", folder / "merged"
        recipe.write_text(candidate.yaml(), "utf-8")
        shutil.rmtree(merged, ignore_errors=True)
        program = [task.mergekit] if task.mergekit else [sys.executable, "-m", "experiments", "merge"]
        subprocess.run([*program, str(recipe), str(merged)], check=True, capture_output=True)
        scores = [gold_score(answers) for answers in stock.samples(merged, names).values()]
        value = sum(float(Term("", metric, 1.0, True).utility(score)) for metric, score in scores) / len(scores)
        outcome.recipes.append(ScoredRecipe(f"trial {trial.number}", "trial", value, dict(candidate.document)))
        outcome.ended()
        return value

    def stop(running: optuna.Study, _: optuna.trial.FrozenTrial) -> None:
        if outcome.spent > task.seconds:
            running.stop()

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=study.file.search.seed)
    optuna.create_study(direction="maximize", sampler=sampler).optimize(objective, callbacks=[stop])
    return outcome


def main() -> None:
    """Run one contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("outcome", type=Path)
    arguments = parser.parse_args()
    task = ContenderTask(**json.loads(arguments.task.read_text("utf-8")))
    outcome = run_study(task) if task.way == "search" else run_loop(task)
    arguments.outcome.write_text(json.dumps(asdict(outcome)), "utf-8")


if __name__ == "__main__":
    main()
