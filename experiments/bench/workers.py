"""Trials per hour of one study by pools of one scorer, of two, and of two Ray actors, and the memory that they share.

    python -m experiments.bench.workers BASE --adapters A B --data DIR --counts 1 2 4 --rounds 2
    python -m experiments.bench.workers BASE --adapters A B --data DIR --counts 1 2 --ray 2 --rounds 1 --trials 4

The same study of the random sampler without racing, each scorer on one thread, all pools in turn; the trials must be
identical, to the last score. The second line is the smallest form, some minutes. Trials per hour count from the start
of the first trial to the end of the last one, baselines and verdict left out. On a machine that others use, or with
fewer cores than scorers, trials per CPU minute tell more: what scales keeps them; Ray's own processes are not counted.
Memory is the highest seen: resident counts what processes share as often as they are, proportional counts it once.
There is no peer.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pandas as pd
import yaml

from experiments.bench.support.process import machine
from search.scoring.resources import SHARED_PARENTS

PAUSE = 1.0
"""Seconds between two looks at the memory."""


@dataclass
class Memory:
    """Bytes of all processes of a run: the parents' files as mapped, and everything.

    Attributes:
        files_resident: Of mapped weight files and of folded adapters that are shared, counted for each process.
        files_shared: The same, each page once.
        resident: Of everything, counted for each process.
        shared: The same, each page once.
    """

    files_resident: int = 0
    files_shared: int = 0
    resident: int = 0
    shared: int = 0

    def raise_to(self, other: "Memory") -> None:
        """Keep the higher of each."""
        for name, value in vars(other).items():
            setattr(self, name, max(getattr(self, name), value))


@dataclass(frozen=True)
class Outcome:
    """What one run gave.

    Attributes:
        trials: What was asked and scored, by number; without times.
        hourly: Trials per hour.
        per_cpu: Trials per minute of CPU time, baselines and verdict included.
        memory: Highest seen.
    """

    trials: pd.DataFrame
    hourly: float
    per_cpu: float
    memory: Memory


def study_of(base: str, adapters: Sequence[str], settings: argparse.Namespace) -> str:
    """Return the study file."""
    weights = {"weight": {"low": 0.0, "high": 1.0}, "density": {"low": 0.2, "high": 1.0}}
    models = [{"model": f"{base}+{adapter}", "parameters": weights} for adapter in adapters]
    family = {"merge_method": "ties", "base_model": base, "models": models, "dtype": "bfloat16"}
    document = {
        "study": "workers",
        "families": {"ties": family},
        "evaluate": {
            "tasks": [{"task": "arc_easy", "metric": "acc_norm", "num_fewshot": 0}],
            "questions": {"search": settings.questions, "selection": 8, "test": 8},
            "data": settings.data,
        },
        "search": {"sampler": "random", "race": False, "trials": settings.trials},
        "tracking": {"mlflow": None},
    }
    return yaml.safe_dump(document, sort_keys=False)


def run(study: Path, out: Path, pool: Sequence[str], log: Path) -> Outcome:
    """Run the study with the pool that some options of the command ask for.

    Raises:
        RuntimeError: It failed.
    """
    command = [sys.executable, "-m", "experiments", "search", str(study), *pool, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    memory = Memory()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            memory.raise_to(_memory(_family(process.pid)))
            time.sleep(PAUSE)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError("\n".join(log.read_text("utf-8", errors="replace").splitlines()[-5:]))
    trials, seconds = _trials(study, out)
    cpu = usage.ru_utime + usage.ru_stime
    return Outcome(trials, 3600 * len(trials) / seconds, 60 * len(trials) / cpu, memory)


def _trials(study: Path, out: Path) -> tuple[pd.DataFrame, float]:
    """Return the trials, and the seconds from the start of the first to the end of the last."""
    from search.storage.store import Store, default_url
    from search.study.study import load_study

    store = Store(default_url(out), load_study(study))
    records = [record for _, record in store.records(store.finished())]
    table = pd.read_csv(out / "trials.csv").query("kind == 'trial'").sort_values("number").reset_index(drop=True)
    kept = table[[name for name in table if not str(name).startswith("seconds")]]
    return kept, max(r["ended"] for r in records) - min(r["started"] for r in records)


def _family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(words[1])
    found = [pid]
    for one in found:
        found.extend(child for child, parent in parents.items() if parent == one)
    return found


def _memory(pids: Sequence[int]) -> Memory:
    total = Memory()
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        weights = False
        for line in lines:
            key, _, value = line.partition(":")
            if "-" in key.split(" ")[0]:
                weights = line.endswith(".safetensors") or f"/{SHARED_PARENTS}/" in line
            elif key in ("Rss", "Pss"):
                name, size = "resident" if key == "Rss" else "shared", int(value.split()[0]) << 10
                setattr(total, name, getattr(total, name) + size)
                if weights:
                    setattr(total, f"files_{name}", getattr(total, f"files_{name}") + size)
    return total


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--adapters", type=Path, nargs=2, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--ray", type=int, nargs="*", default=[], help="numbers of Ray actors")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--questions", type=int, default=60)
    settings = parser.parse_args()
    pools = {str(count): ["--workers", str(count)] for count in settings.counts}
    pools |= {f"Ray {count}": ["--ray", "--workers", str(count)] for count in settings.ray}
    found: dict[str, list[Outcome]] = {name: [] for name in pools}
    with tempfile.TemporaryDirectory(prefix="mergesearch-workers-") as temporary:
        study = Path(temporary, "workers.yaml")
        adapters = [str(adapter.resolve()) for adapter in settings.adapters]
        study.write_text(study_of(str(settings.base.resolve()), adapters, settings), encoding="utf-8")
        for number in range(settings.rounds):
            for place, (name, outcomes) in enumerate(found.items()):
                outcomes.append(run(study, Path(temporary, f"{number}-{place}"), pools[name], Path(temporary, "log")))
                last, first = outcomes[-1], next(iter(found.values()))
                pd.testing.assert_frame_equal(last.trials, first[0].trials)
                rate = last.hourly / first[number].hourly
                print(f"round {number + 1}, {name}: {last.hourly:.0f} trials/h, {rate:.2f} x", flush=True)
    print(f"{machine()}; the same {settings.trials} trials, to the last score, in every run")
    print_table(found)


def print_table(found: Mapping[str, Sequence[Outcome]]) -> None:
    """Print what each pool reached, against the first one."""
    print("| scorers | trials/h | x | trials per CPU min | x | weight files MB, once / each | all MB, once / each |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    first = next(iter(found.values()))
    for name, outcomes in found.items():
        hourly = median(a.hourly / b.hourly for a, b in zip(outcomes, first, strict=True))
        spent = median(a.per_cpu / b.per_cpu for a, b in zip(outcomes, first, strict=True))
        peak = Memory()
        for outcome in outcomes:
            peak.raise_to(outcome.memory)
        print(
            f"| {name} | {median(o.hourly for o in outcomes):.0f} | {hourly:.2f} | "
            f"{median(o.per_cpu for o in outcomes):.1f} | {spent:.2f} | "
            f"{peak.files_shared >> 20} / {peak.files_resident >> 20} | {peak.shared >> 20} / {peak.resident >> 20} |"
        )


if __name__ == "__main__":
    main()
