"""A whole search against the loop that people write today, at equal CPU time and on equal questions.

    OMP_NUM_THREADS=1 python -m experiments.bench.peers BASE DATA --adapters MATH SCIENCE --mergekit PATH

Peer: Optuna's TPE in a loop that writes every candidate to disk with mergekit and calls lm-eval's ``simple_evaluate``
with ``HFLM``. Ours runs as it is, without racing, and with random proposals and no racing.

Takes 4 x ``--minutes`` of CPU time for each seed, and a few minutes more: 25 minutes as called above. In its smallest
form, ``--minutes 1 --task arc_easy gold_prob 0 8,8,8``, 6 minutes.

All four look for the best merge of two fine-tunes of one base, over the families of the study math-science. The clock
is the CPU time of the contender's process and its children from its start, imports, prompts and our baselines included,
so that other load on the machine does not count. A candidate that is being scored when the time is up is finished.

The loop names its best candidate by search score. Ours names, as a search does, the best of its three finalists and of
the merges among its baselines on the selection questions. All named recipes are scored by one scorer on test questions
that none has seen; this, and naming, is not on the clock. Folders of parents are written before.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from evals.lm_eval_files.reference_run import write_task
from experiments.bench.support.contenders import ContenderResult, ContenderTask, ScoredRecipe
from experiments.bench.support.parents import write_parent
from experiments.bench.support.process import machine
from experiments.bench.support.standings import HEAD, LOOP, Row
from merge.recipe.schema import Recipe
from search.proposals.baselines import make_baselines
from search.results.job import Job
from search.results.outcome import Part, Scored
from search.scoring.resources import Resources
from search.storage.store import Store, default_url
from search.study.study import LoadedStudy
from search.verdict.conclusion import MERGES
from search.verdict.finalists import name_winner, order_finalists

READY = Path(__file__).parents[1] / "studies" / "math-science.yaml"
BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
WAYS: Mapping[str, Mapping[str, object]] = {
    "ours": {},
    "ours, no racing": {"race": False},
    "ours, random, no racing": {"race": False, "sampler": "random"},
}
FINALISTS = 3
TASKS = (("arc_easy", "gold_prob", "0", "96,96,200"), ("gsm8k", "gold_bits_per_byte", "0", "32,32,60"))
PARTS = ("search", "selection", "test")


def make_parents(base: str, adapters: Sequence[Path], folder: Path) -> dict[str, str]:
    """Write base and fine-tunes as folders in float32; return the ready study's names for them."""
    sources = {BASE_NAME: base}
    sources |= {f"{BASE_NAME}+experiments/demo/adapters/{a.name}": f"{base}+{a}" for a in adapters}
    folders = {}
    for name, source in sources.items():
        out = folder / (Path(name).name if "+" in name else "base")
        if not out.exists():
            write_parent(source, out, "float32")
        folders[name] = str(out.resolve())
    return folders


def study_document(parents: Mapping[str, str], settings: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return the study that all contenders search."""
    text = READY.read_text("utf-8")
    for name in sorted(parents, key=len, reverse=True):
        text = text.replace(f"{name}\n", f"{parents[name]}\n")
    document: dict[str, Any] = yaml.safe_load(text)
    tasks = settings.task or TASKS
    counts = {task[0]: [int(count) for count in task[3].split(",")] for task in tasks}
    document["evaluate"] = {
        "tasks": [{"task": name, "metric": metric, "num_fewshot": int(shots)} for name, metric, shots, _ in tasks],
        "questions": {part: {name: counts[name][i] for name in counts} for i, part in enumerate(PARTS)},
        "data": str(settings.data.resolve()),
        "verdict": "asked",
    }
    document["search"] = {"trials": 1000, "seed": seed, "finalists": FINALISTS}
    document["tracking"] = {"mlflow": None}
    return document


def contend(task: ContenderTask, folder: Path) -> ContenderResult:
    """Run a contender in a process of its own; one that came to its end in an earlier run is not run again."""
    own = Path(task.folder)
    task_file, outcome_file = folder / f"{own.name}-task.json", folder / f"{own.name}-outcome.json"
    if outcome_file.exists() and json.loads(task_file.read_text("utf-8")) == asdict(task):
        return _outcome(outcome_file)
    shutil.rmtree(own, ignore_errors=True)
    task_file.write_text(json.dumps(asdict(task)), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.bench.support.contenders", str(task_file), str(outcome_file)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    if done.returncode:
        raise RuntimeError(f"{own.name} failed:\n" + "\n".join(done.stdout.splitlines()[-8:]))
    return _outcome(outcome_file)


def _outcome(file: Path) -> ContenderResult:
    outcome = json.loads(file.read_text("utf-8"))
    return ContenderResult(**{**outcome, "recipes": [ScoredRecipe(**entry) for entry in outcome["recipes"]]})


class FinalScorer:
    """Scores the recipes that contenders name, with one scorer for all."""

    def __init__(self, document: Mapping[str, Any], folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        study = LoadedStudy(dict(document), place="study")
        self.bench = Resources(study, (), "cpu", folder)
        self.bench.use(Store(default_url(folder), study))
        self._merges = {b.name for b in make_baselines(self.bench.recipes, study.known) if b.kind in MERGES}
        self._known: dict[str, Scored] = {}

    def write_tasks(self, folder: Path) -> None:
        """Write the search questions as task files of lm-eval."""
        folder.mkdir(exist_ok=True)
        for loaded in self.bench.tasks:
            write_task(loaded, self.bench.sets.search, folder)

    def score(self, recipe: Mapping[str, object], part: Part) -> Scored:
        """Score a recipe on a part, once."""
        key = json.dumps([recipe, part], sort_keys=True)
        if key not in self._known:
            scored = self.bench.scorer.score(Job("named", 0, Recipe.from_mapping(recipe, place="named"), part))
            if not isinstance(scored, Scored):
                raise RuntimeError(f"{recipe}: {scored.reason}")
            self._known[key] = scored
        return self._known[key]

    def named(self, outcome: ContenderResult, *, select: bool) -> ScoredRecipe:
        """Return the recipe that a contender names."""
        trials = {entry.name: entry for entry in outcome.recipes if entry.kind == "trial"}
        first = order_finalists({name: entry.value for name, entry in trials.items()}, FINALISTS)
        if not select:
            return trials[first[0]]
        finalists = {name: trials[name] for name in first}
        finalists |= {entry.name: entry for entry in outcome.recipes if entry.name in self._merges}
        selection = {name: self.score(entry.recipe, "selection").value for name, entry in finalists.items()}
        return finalists[name_winner(selection, {name: entry.value for name, entry in finalists.items()})]


def tasks_of(document: dict[str, Any], settings: argparse.Namespace, folder: Path) -> dict[str, ContenderTask]:
    """Return how each contender is set up, by name."""
    return {
        name: ContenderTask(
            way="loop" if name == LOOP else "search",
            study={**document, "search": {**document["search"], **WAYS.get(name, {})}},
            folder=str(folder / f"run{number}"),
            seconds=60 * settings.minutes,
            questions=str(folder / "questions"),
            mergekit=settings.mergekit,
            batch_size=settings.batch,
        )
        for number, name in enumerate([*WAYS, LOOP])
    }


def run_seed(seed: int, document: dict[str, Any], settings: argparse.Namespace, folder: Path) -> list[Row]:
    """Run all contenders with one seed and score what they name."""
    folder.mkdir(exist_ok=True)
    scorer, tasks = FinalScorer(document, folder / "scorer"), tasks_of(document, settings, folder)
    scorer.write_tasks(folder / "questions")
    with ThreadPoolExecutor(settings.jobs) as pool:
        outcomes = dict(zip(tasks, pool.map(lambda task: contend(task, folder), tasks.values()), strict=True))
    named = {name: scorer.named(outcome, select=name != LOOP) for name, outcome in outcomes.items()}
    tested = {name: scorer.score(entry.recipe, "test") for name, entry in named.items()}
    objective = scorer.bench.objective
    return [
        Row(
            seed,
            name,
            outcome,
            named[name],
            tested[name].value,
            objective.difference(tested[name].results, tested[LOOP].results, seed=seed),
            abs(named[name].value - scorer.score(named[name].recipe, "search").value),
        )
        for name, outcome in outcomes.items()
    ]


def compare(settings: argparse.Namespace, scratch: Path) -> list[Row]:
    """Run all contenders with every seed; print and keep a row for each."""
    scratch.mkdir(parents=True, exist_ok=True)
    parents = make_parents(settings.base, [adapter.resolve() for adapter in settings.adapters], scratch)
    rows: list[Row] = []
    for seed in settings.seeds:
        for row in run_seed(seed, study_document(parents, settings, seed), settings, scratch / f"seed{seed}"):
            rows.append(row)
            print(row.line(), flush=True)
        if settings.json is not None:
            settings.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), "utf-8")
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="folder of the base model")
    parser.add_argument("data", type=Path, help="folder with TASK/SPLIT.jsonl")
    parser.add_argument("--adapters", type=Path, nargs=2, required=True, metavar="DIR", help="LoRA: math, science")
    parser.add_argument("--mergekit", metavar="PATH", help="mergekit-yaml of another environment; else our disk merge")
    parser.add_argument("--minutes", type=float, default=5.0, help="of CPU time, for each contender")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--task",
        action="append",
        nargs=4,
        metavar=("TASK", "METRIC", "SHOTS", "N,N,N"),
        help="what is asked: gold_prob or gold_bits_per_byte, and how many questions for search, selection, test; "
        f"can be given again; default: {'; '.join(' '.join(task) for task in TASKS)}",
    )
    parser.add_argument("--batch", type=int, default=4, help="HFLM's batch size")
    parser.add_argument("--jobs", type=int, default=1, help="contenders at a time")
    parser.add_argument(
        "--work", type=Path, help="folder for 2 GB of parents and merges and for all answers; kept, and gone on with"
    )
    parser.add_argument("--json", type=Path, help="raw figures")
    settings = parser.parse_args()
    disk = "mergekit-yaml" if settings.mergekit else "our disk merge"
    print(f"{machine()}; {settings.minutes:g} CPU minutes each, one thread; the loop merges with {disk}\n\n{HEAD}")
    with nullcontext(settings.work) if settings.work else tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        rows = compare(settings, Path(scratch))
    print()
    for row in rows:
        if row.name == next(iter(WAYS)):
            loop = next(other for other in rows if other.seed == row.seed and other.name == LOOP)
            print(
                f"seed {row.seed}: {row.rate / loop.rate:.1f} times the loop's candidates per CPU hour, "
                f"{row.later_rate / loop.later_rate:.1f} times after the start; our scorer and HFLM differ by "
                f"{loop.apart:.1g} in the loop's best search score"
            )


if __name__ == "__main__":
    main()
