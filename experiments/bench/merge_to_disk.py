"""Time and memory of merging to a folder: ``mergesearch merge`` against mergekit's ``mergekit-yaml``.

    python -m experiments.bench.merge_to_disk BASE --adapters DIR DIR --mergekit ENV/bin/mergekit-yaml

Peer: mergekit in an environment of its own; without ``--mergekit`` only our side is measured. Seven recipes in bfloat16
and float32. Both tools run the same recipe as processes of their own, in turn (A B A B); the median counts.

Takes about 20 minutes for models of 135M parameters, 3 GB of disk; ours alone 4 minutes. In its smallest form:
``--dtypes bfloat16 --only linear --repeats 1``, half a minute.

The fine-tunes are made first: the base with each adapter folded in, and the base with noise as the third. Wall clock
runs from the start of a process to its exit, imports included. Anonymous memory is memory that no file backs, so that
mapped checkpoints do not count.
"""

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from experiments.bench.support.parents import write_fine_tunes
from experiments.bench.support.process import Cost, machine, middle, run

DTYPES = ("bfloat16", "float32")


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    method: str
    models: int

    @property
    def title(self) -> str:
        """What the row is called."""
        return f"{self.method}, {self.models} fine-tunes"

    def recipe(self, folder: Path) -> dict[str, Any]:
        """Return the recipe for the parents in a folder."""
        own: dict[str, float] = {} if self.method == "slerp" else {"weight": 0.5}
        if self.method in {"ties", "dare_ties"}:
            own["density"] = 0.5
        listed = [str(folder / f"tuned{number}") for number in range(1, self.models + 1)]
        recipe: dict[str, Any] = {
            "merge_method": self.method,
            "models": [{"model": model, **({"parameters": own} if own else {})} for model in listed],
        }
        if self.method == "slerp":
            recipe |= {"base_model": listed[0], "parameters": {"t": 0.4}}
        elif self.method != "linear":
            recipe |= {"base_model": str(folder / "base")}
        return recipe


CASES = [
    *(Case(method, 2) for method in ("linear", "slerp", "ties", "dare_ties")),
    *(Case(method, 3) for method in ("linear", "ties", "dare_ties")),
]


def measure(case: Case, parents: Path, mergekit: str | None, repeats: int) -> tuple[Cost, Cost | None]:
    """Run both tools in turn on one recipe."""
    recipe, out, log = parents / "recipe.yaml", parents / "out", parents / "log"
    recipe.write_text(yaml.safe_dump(case.recipe(parents)), "utf-8")
    commands = {"ours": [sys.executable, "-m", "experiments", "merge", str(recipe), str(out), "--random-seed", "0"]}
    if mergekit is not None:
        commands["theirs"] = [mergekit, str(recipe), str(out), "--random-seed", "0", "--quiet"]
    costs: dict[str, list[Cost]] = {side: [] for side in commands}
    for _ in range(repeats):
        for side, command in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            costs[side].append(run(command, log=log))
    shutil.rmtree(out, ignore_errors=True)
    return middle(costs["ours"]), middle(costs["theirs"]) if mergekit is not None else None


def row(title: str, ours: Cost, theirs: Cost | None) -> str:
    """Return a line of the table; `ours / theirs` in each cell but the last two."""
    if theirs is None:
        return f"| {title} | {ours.wall:.1f} | {ours.cpu:.1f} | {mb(ours.resident)} | {mb(ours.anonymous)} | | |"
    return (
        f"| {title} | {ours.wall:.1f} / {theirs.wall:.1f} | {ours.cpu:.1f} / {theirs.cpu:.1f} "
        f"| {mb(ours.resident)} / {mb(theirs.resident)} | {mb(ours.anonymous)} / {mb(theirs.anonymous)} "
        f"| {theirs.wall / ours.wall:.1f} × | {theirs.cpu / ours.cpu:.1f} × |"
    )


def mb(size: int) -> str:
    """Return a size in decimal megabytes."""
    return f"{size / 1e6:.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="folder of the base model")
    parser.add_argument("--adapters", type=Path, nargs=2, required=True, metavar="DIR", help="two LoRA adapters of it")
    parser.add_argument("--mergekit", metavar="PATH", help="mergekit-yaml of another environment")
    parser.add_argument("--work", type=Path, help="folder for 3 GB of parents and output; deleted afterwards")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--only", default="", help="methods, separated by commas")
    arguments = parser.parse_args()
    print(f"{machine()}, torch {torch.__version__}; {arguments.repeats} runs each, in turn; ours / mergekit\n")
    print("| merge | wall s | CPU s | resident MB | anonymous MB | wall | CPU |\n|---|---|---|---|---|---|---|")
    if arguments.work is not None:
        arguments.work.mkdir(parents=True, exist_ok=True)
    only = {method for method in arguments.only.split(",") if method}
    for dtype in arguments.dtypes.split(","):
        with tempfile.TemporaryDirectory(prefix="merge-to-disk-", dir=arguments.work) as scratch:
            parents = write_fine_tunes(arguments.base.resolve(), arguments.adapters, Path(scratch), dtype)
            os.sync()  # else the system still writes the parents while the first merges are timed
            for case in CASES:
                if not only or case.method in only:
                    costs = measure(case, parents, arguments.mergekit, arguments.repeats)
                    print(row(f"{case.title}, {dtype}", *costs), flush=True)


if __name__ == "__main__":
    main()
