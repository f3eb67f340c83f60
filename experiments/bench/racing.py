"""What racing saves and what it costs, replayed on the recorded answers of a study that was run with ``race: false``.

    python -m experiments.bench.racing runs/NAME/answers.csv --metric arc_easy=acc_norm --metric mmlu=acc

Peers: the tests that are usually taken, a paired t test (McNemar's where answers are right or wrong) and Wilcoxon's,
each on questions in drawn and in learned order. No model is opened; takes 1 to 5 minutes, by the size of the recording.

Several recordings of the same questions may be given, such as those that ``peers.py`` leaves. Candidates race on the
metric that decides, or with ``--probability`` on the right choice's probability.

Candidates run in random order against the best so far, which begins as the best baseline, on random parts of the
questions. There are two pools: near ties, whose objective is within ``--near`` of the best candidate's, and clearly
worse ones. Printed are the share of questions asked, how many candidates were stopped, how many of those were better
than the one that stopped them and by how much at most, and the regret: the best of the pool minus the race's result.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from evals.tasks.sampling import Question
from search.objective.objective import GOLD_PROBABILITY, Gains, Objective, Term
from search.objective.racing import Race, catches_up, worse

Array = NDArray[np.float64]
WAYS = ("t drawn", "wilcoxon drawn", "t learned", "wilcoxon learned", "ours drawn", "ours learned")
SHARE = 0.8
"""Part of the questions in one repetition."""


@dataclass(frozen=True)
class Answers:
    """Utilities of all candidates.

    Attributes:
        names: Candidates.
        raced: Per task, candidates by questions, in the metric that is raced on.
        final: The same in the metric that decides.
        questions: Per task, in the order of the columns.
    """

    names: tuple[str, ...]
    raced: Mapping[str, Array]
    final: Mapping[str, Array]
    questions: Mapping[str, tuple[Question, ...]]

    def part(self, rng: np.random.Generator) -> "Answers":
        """Return a random part of the questions."""
        chosen = {t: rng.permutation(len(q))[: round(SHARE * len(q))] for t, q in self.questions.items()}
        return Answers(
            self.names,
            {task: values[:, chosen[task]] for task, values in self.raced.items()},
            {task: values[:, chosen[task]] for task, values in self.final.items()},
            {task: tuple(self.questions[task][i] for i in places) for task, places in chosen.items()},
        )

    def values(self) -> Array:
        """Return every candidate's objective."""
        means = [values.mean(axis=1) for values in self.final.values()]
        return np.asarray(np.mean(means, axis=0), dtype=np.float64)


def read_answers(paths: Sequence[Path], metrics: Mapping[str, str], *, gold: bool) -> Answers:
    """Read what studies of the same questions wrote, the search questions alone.

    Candidates that did not answer all are left out; of several studies, the first one's baselines stand for all.

    Args:
        paths: Their `answers.csv`.
        metrics: Metric of each task.
        gold: Race on the right choice's probability where there is one, whatever the metric.
    """
    tables = [pd.read_csv(path) for path in paths]
    for number, table in enumerate(tables):
        trials = table["name"].str.startswith("trial ")
        table.loc[trials, "name"] = f"{number}: " + table.loc[trials, "name"]
        tables[number] = table[trials | (number == 0)]
    table = pd.concat(tables)
    table = table[table["part"] == "search"]
    raced, final, questions = {}, {}, {}
    names: list[str] = list(dict.fromkeys(table["name"]))
    for task, metric in metrics.items():
        rows = table[table["task"] == task]
        told = GOLD_PROBABILITY if gold and GOLD_PROBABILITY in set(rows["metric"]) else metric
        grids = {m: rows[rows["metric"] == m].pivot(index=["leaf", "question"], columns="name", values="value")
                 for m in (metric, told)}  # fmt: skip
        complete = grids[told].dropna(axis=1).columns
        names = [name for name in names if name in complete]
        raced[task] = Term(task, told, 1.0, told != "gold_bits_per_byte"), grids[told]
        final[task] = Term(task, metric, 1.0, metric != "gold_bits_per_byte"), grids[metric]
        questions[task] = tuple(Question(str(k[0]), "search", i, str(k[1])) for i, k in enumerate(grids[told].index))
    return Answers(
        tuple(names),
        {task: term.utility(grid[names].to_numpy().T) for task, (term, grid) in raced.items()},
        {task: term.utility(grid[names].to_numpy().T) for task, (term, grid) in final.items()},
        questions,
    )


def wilcoxon(gains: Mapping[str, Array], weights: Mapping[str, float]) -> float:
    """Return the one-sided p-value of Wilcoxon's signed ranks, tasks added with their shares; normal approximation."""
    total, variance = 0.0, 0.0
    for task, gain in gains.items():
        ranks = stats.rankdata(np.abs(gain[gain != 0]))
        scale = weights[task] / max(1, len(ranks) * (len(ranks) + 1))
        total += scale * float((np.sign(gain[gain != 0]) * ranks).sum())
        variance += scale**2 * float((ranks**2).sum())
    return float(stats.norm.cdf(total / np.sqrt(variance))) if variance else 1.0


@dataclass
class Tally:
    """What one way of racing did over all repetitions."""

    asked: float = 0.0
    possible: float = 0.0
    runs: int = 0
    stopped: int = 0
    wrong: int = 0
    lost: float = 0.0
    regret: float = 0.0

    def row(self) -> str:
        """Return the figures as one line."""
        return (
            f"asked {self.asked / self.possible:6.1%}  stopped {self.stopped:5d} of {self.runs:5d}  "
            f"better ones stopped {self.wrong:3d} (by {self.lost:.4f} at most)"
        )


def run(answers: Answers, pool: Sequence[int], first: Sequence[int], settings: argparse.Namespace, way: str) -> str:
    """Return the figures of one way of racing: ``TEST ORDER``."""
    test, order = way.split()
    rng, tally, regrets = np.random.default_rng(settings.seed), Tally(), []
    for _ in range(settings.repeats):
        part = answers.part(rng)
        worth: dict[tuple[str, str], float] = {}
        spreads = {task: part.raced[task][list(first)].var(axis=0) for task in part.questions}
        if order == "learned":
            for task, questions in part.questions.items():
                worth |= {(q.task, q.id): float(s) for q, s in zip(questions, spreads[task], strict=True)}
        race = Race(Objective(()), settings.level, settings.blocks, worth)
        labels = {q.task: task for task, questions in part.questions.items() for q in questions}
        asked = race.plan([q for questions in part.questions.values() for q in questions], labels)
        values = part.values()
        leader = max(first, key=lambda i: values[i])
        for one in rng.permutation(pool):
            stop = _stop(part, (int(one), leader), asked, test, settings.level, worth)
            tally.runs += 1
            tally.possible += sum(map(len, asked))
            tally.asked += sum(map(len, asked[: stop or len(asked)]))
            if stop is not None:
                tally.stopped += 1
                tally.wrong += bool(values[one] > values[leader])
                tally.lost = max(tally.lost, float(values[one] - values[leader]))
            elif values[one] > values[leader]:
                leader = int(one)
        regrets.append(max(values[[*first, *pool]]) - values[leader])
    return f"{tally.row()}  regret {np.mean(regrets):.5f}"


def _stop(
    part: Answers,
    pair: tuple[int, int],
    blocks: Sequence[Sequence[Question]],
    test: str,
    level: float,
    worth: Mapping[tuple[str, str], float],
) -> int | None:
    """Return after how many blocks the first of a pair is stopped by the second."""
    weights = dict.fromkeys(part.raced, 1 / len(part.raced))
    keys = {task: {(q.task, q.id): i for i, q in enumerate(questions)} for task, questions in part.questions.items()}
    seen: set[tuple[str, str]] = set()
    for number, block in enumerate(blocks[:-1], start=1):
        seen |= {(question.task, question.id) for question in block}
        gains = {}
        for task, known in keys.items():
            asked, left = tuple(k for k in known if k in seen), tuple(k for k in known if k not in seen)
            places = [known[key] for key in asked]
            gains[task] = Gains(part.raced[task][pair[0], places] - part.raced[task][pair[1], places], asked, left)
        if _chance(gains, weights, test, worth) < level:
            return number
    return None


def _chance(
    gains: Mapping[str, Gains], weights: Mapping[str, float], test: str, worth: Mapping[tuple[str, str], float]
) -> float:
    if test == "ours":
        return catches_up(gains, worth, weights)
    values = {task: gain.values for task, gain in gains.items()}
    if sum(weights[task] * gain.mean() for task, gain in values.items()) >= 0:
        return 1.0
    return worse(values, weights) if test == "t" else wilcoxon(values, weights)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path, nargs="+")
    parser.add_argument("--metric", action="append", required=True, metavar="TASK=METRIC")
    parser.add_argument("--baselines", default="base,math,science,equal weights,task arithmetic")
    parser.add_argument("--near", type=float, default=0.03)
    parser.add_argument("--level", type=float, default=0.01)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--probability", action="store_true", help="race on the right choice's probability")
    settings = parser.parse_args()
    metrics = dict(pair.split("=", 1) for pair in settings.metric)
    answers = read_answers(settings.answers, metrics, gold=settings.probability)
    values = answers.values()
    first = [i for i, name in enumerate(answers.names) if name in settings.baselines.split(",")]
    others = [i for i in range(len(answers.names)) if i not in first]
    best = values[others].max()
    pools = {
        "near ties": [i for i in others if values[i] >= best - settings.near],
        "clearly worse": [i for i in others if values[i] < best - settings.near],
        "all": others,
    }
    count = sum(map(len, answers.questions.values()))
    print(f"{len(others)} candidates, {len(first)} baselines, {count} questions, {settings.repeats} repetitions")
    for title, pool in pools.items():
        print(f"{title}: {len(pool)} candidates")
        for way in WAYS:
            print(f"  {way:17s} {run(answers, pool, first, settings, way)}" if pool else "  none")


if __name__ == "__main__":
    main()
