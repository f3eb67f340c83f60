"""Studies whose leading process is killed in every phase, again and again, and what is counted of it.

After each kill the store's rows are read: no finished trial may be lost or changed, no number may get other parameters.
What every process asked stands in a log; at the end the study must be, to the last answer, the undisturbed one.
"""

import random
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.faults.phases import PHASES, Commands
from tests.faults.question_log import Asked, Key, Repeats, read_log, repeats
from tests.faults.store_rows import Rows, read_rows
from tests.faults.wholeness import check_files, results
from tests.search.studies import tiny_study

AFTER_TRIALS = ("finalists", "test", "verdict")
BASELINES = 5


@dataclass(frozen=True)
class Variant:
    """A study that is killed: its sampler, race, seed and budget, and whether it is mirrored to MLflow and reported."""

    sampler: str
    race: bool
    seed: int
    trials: int = 16
    mirrored: bool = False

    def __str__(self) -> str:
        return f"{self.sampler}{', raced' if self.race else ''}, seed {self.seed}"

    def document(self, mlflow: str | None) -> str:
        """Return the study file."""
        own = {"sampler": self.sampler, "race": self.race, "seed": self.seed, "trials": self.trials}
        return yaml.safe_dump(yaml.safe_load(tiny_study(**own)) | {"tracking": {"mlflow": mlflow}})


@dataclass
class Tally:
    """What the kills of one phase came to.

    Attributes:
        kills: Processes killed.
        at_end: Of these, in the last instant of the phase, which was over before the instant that was drawn.
        in_flight: Jobs that the kills interrupted: begun, and not in the store.
        half_told: Trials that had a record and no state afterwards.
        changed: Finished trials and scores that were lost or changed.
        asked_again: Questions of finished jobs that the killed process asked again.
        renumbered: Trials whose parameters changed.
    """

    kills: int = 0
    at_end: int = 0
    in_flight: int = 0
    half_told: int = 0
    changed: int = 0
    asked_again: int = 0
    renumbered: int = 0


@dataclass
class Disturbed:
    """A study in a folder of its own, whose processes are killed.

    Attributes:
        variant: The study.
        commands: Runs the command line there.
        models: The models root.
        tallies: What the kills came to, by phase.
        wrong: What must not have been.
        finished: What the store had answers of when a process began, by the process's number.
        rows: What the store held when it was last read.
        repeated: What was asked again, once the study is at its end.
    """

    variant: Variant
    commands: Commands
    models: Path
    tallies: Mapping[str, Tally] = field(default_factory=lambda: {phase: Tally() for phase in PHASES})
    wrong: list[str] = field(default_factory=list)
    finished: dict[int, Collection[Key]] = field(default_factory=dict)
    rows: Rows = field(default_factory=Rows)
    repeated: Repeats = field(default_factory=Repeats)

    @property
    def home(self) -> Path:
        """Return its folder."""
        return self.commands.home

    def begin(self) -> None:
        """Make the folder, with the study in it, and the same without a mirror, which starts sooner."""
        self.home.mkdir()
        (self.home / "tiny.yaml").write_text(self.variant.document("sqlite:///mlflow.db"))
        (self.home / "plain.yaml").write_text(self.variant.document(None))

    def words(self, phase: str) -> tuple[object, ...]:
        """Return the command in which a phase is."""
        if phase == "export":
            return "export", "runs/tiny", "--model", "merged", "--models-root", self.models
        if phase == "report":
            return "report", "runs/tiny"
        return "search", "tiny.yaml" if phase == "mlflow" else "plain.yaml", "--models-root", self.models

    def kill_often(self, phase: str, times: int) -> None:
        """Have so many processes killed in a phase, or as many as get to it."""
        tally = self.tallies[phase]
        for _ in range(times):
            scored = sum(part == "search" for part, _ in self.rows.outside)
            turn = self.commands.chance.choice((1, 2)) if phase == "baseline" and scored < BASELINES - 2 else 1
            if phase == "export":
                shutil.rmtree(self.home / "merged", ignore_errors=True)
            self._note_finished()
            killed = self.commands.kill(phase, turn, *self.words(phase))
            tally.kills += killed is not None
            tally.at_end += killed is False
            self.look(tally)

    def run(self, *phases: str) -> None:
        """Run the commands of some phases to their ends."""
        for phase in phases:
            self._note_finished()
            self.commands.run(*self.words(phase))

    def look(self, tally: Tally) -> None:
        """Read what a killed process left, and compare it with what the one before left."""
        check_files(self.home)
        now, before = read_rows(self.home / "runs" / "tiny" / "study.db", "tiny"), self.rows
        run = self.commands.runs
        changed = [f"trial {n}" for n, trial in before.finished.items() if now.finished.get(n) != trial]
        changed += [" of ".join(key) for key, record in before.outside.items() if now.outside.get(key) != record]
        renumbered = [n for n, params in before.params.items() if not params.items() <= now.params.get(n, {}).items()]
        self.rows = now
        mine = [block for block in self.asked() if block.run == run]
        again = sum(len(block.questions) for block in mine if block.key in self.finished[run])
        done = self.keys_finished()
        lost = {block.key for block in mine if block.key not in done}
        tally.in_flight += len(lost)
        tally.half_told += len(now.recorded)
        tally.changed += len(changed)
        tally.renumbered += len(renumbered)
        tally.asked_again += again
        self.wrong += [f"run {run}: {what} is finished, and lost or changed" for what in changed]
        self.wrong += [f"run {run}: the parameters of trial {number} changed" for number in renumbered]
        self.wrong += [f"run {run}: {len(lost)} jobs were lost"] if len(lost) > 1 else []

    def asked(self) -> list[Asked]:
        """Return what all processes asked so far."""
        return read_log(self.home / "questions.jsonl")

    def keys_finished(self) -> set[Key]:
        """Return part and digest of everything that the store has answers of."""
        own = {block.key for block in self.asked() if block.number in self.rows.finished}
        return {*self.rows.outside, *own}

    def end(self, expected: Mapping[str, Any]) -> None:
        """Compare the finished study with the undisturbed one, and count what was asked again."""
        check_files(self.home)
        for name, value in results(self.home, "tiny").items():
            if value != expected[name]:
                self.wrong.append(f"{name} is not that of the undisturbed study")
        found = repeats(self.asked(), self.finished)
        if found.finished:
            self.wrong.append(f"{found.finished} questions of finished jobs were asked again")
        if found.same:
            self.wrong.append(f"{found.same} questions were asked twice by one process")
        self.repeated = found

    def _note_finished(self) -> None:
        self.rows = read_rows(self.home / "runs" / "tiny" / "study.db", "tiny")
        self.finished[self.commands.runs + 1] = self.keys_finished()


def kill_leader(folder: Path, models: Path, variant: Variant, times: int, chance: random.Random) -> Disturbed:
    """Kill a study's leading processes so many times in every phase, and compare its end with an undisturbed one.

    Args:
        folder: Where the two studies are.
        models: The models root.
        variant: The study.
        times: Kills per phase.
        chance: Draws the instants.
    """
    calm = Disturbed(variant, Commands(folder / "calm", chance), models)
    calm.begin()
    calm.run("mlflow" if variant.mirrored else "verdict", "export", *(["report"] if variant.mirrored else []))
    check_files(calm.home)
    study = Disturbed(variant, Commands(folder / "home", chance, calm.commands.seconds), models)
    study.begin()
    _disturb(study, times)
    study.end(results(calm.home, "tiny"))
    return study


def _disturb(study: Disturbed, times: int) -> None:
    mirrored = study.variant.mirrored
    study.kill_often("baseline", times)
    few = -(-times // 3)  # of phases that do not count among those that must be covered evenly
    order = [*("trial", "told, not stored") * times, *("ask",) * few, *("mlflow",) * (few if mirrored else 0)]
    study.commands.chance.shuffle(order)
    for phase in order:
        study.kill_often(phase, 1)
    for phase in AFTER_TRIALS:
        study.kill_often(phase, times)
    study.run("mlflow" if mirrored else "verdict")
    if mirrored:
        study.kill_often("report", few)
        study.run("report")
    study.kill_often("export", times)
    shutil.rmtree(study.home / "merged", ignore_errors=True)
    study.run("export")
