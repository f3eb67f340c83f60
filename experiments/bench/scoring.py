"""Pairs the live scorer with lm-eval's HFLM: same prompts, same process, in turn (A B A B), CPU time.

    OMP_NUM_THREADS=1 python -m experiments.bench.scoring MODEL DATA --only arc-0,mmlu-5 --questions 12

Both sides score the same prepared requests, so lm-eval's own work of building prompts anew for every model is not
counted against it; the first run, in which requests are planned, is not counted either. The floor is the time that
the matrix products of the unique tokens alone would take here.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from evals.harness import Evaluation
from evals.questions import Leaf
from evals.results import Results
from evals.scorer import LiveScorer
from evals.stock import stock_scorer
from evals.tasks import LoadedTask, TaskSpec, load_tasks


@dataclass(frozen=True)
class Case:
    """One kind of task.

    Attributes:
        spec: The task.
        longest: Cap of generated tokens; None keeps the task's.
    """

    spec: TaskSpec
    longest: int | None = None


CASES = {
    "arc-0": Case(TaskSpec(task="arc_easy", num_fewshot=0)),
    "arc-25": Case(TaskSpec(task="arc_challenge", num_fewshot=25)),
    "arc-25-fixed": Case(TaskSpec(task="arc_challenge", num_fewshot=25, fewshot="fixed")),
    "mmlu-5": Case(TaskSpec(task="mmlu_anatomy", num_fewshot=5)),
    "hellaswag-10": Case(TaskSpec(task="hellaswag", num_fewshot=10)),
    "gsm8k-5": Case(TaskSpec(task="gsm8k", num_fewshot=5), 64),
    "gsm8k-5-fixed": Case(TaskSpec(task="gsm8k", num_fewshot=5, fewshot="fixed"), 64),
    "gsm8k-loss": Case(TaskSpec(task="gsm8k", num_fewshot=0, metric="gold_bits_per_byte")),
    "ifeval": Case(TaskSpec(task="ifeval"), 64),
}


@dataclass(frozen=True)
class Timed:
    """One run."""

    results: Results
    seconds: float


def timed(run: Callable[[], Results]) -> Timed:
    """Run once, in seconds of CPU time of this process."""
    started = time.process_time()
    results = run()
    return Timed(results, time.process_time() - started)


def prepare(case: Case, data: Path, questions: int, tokenizer: Any) -> Evaluation:
    """Load a task and build the prompts of its first questions."""
    tasks: tuple[LoadedTask, ...] = load_tasks([case.spec], data=data)
    if case.longest is not None:
        for task in tasks:
            task.task.set_config("generation_kwargs", {"max_gen_toks": case.longest}, update=True)
    first = [question for task in tasks for question in Leaf(task).test.questions(task.name)[:questions]]
    return Evaluation.build(tasks, first, tokenizer=tokenizer)


def matmul_rate(width: int) -> float:
    """Return the floating point operations per second of a matrix product of this model's size."""
    left, right = torch.randn(512, width), torch.randn(width, 4 * width)
    left @ right
    started = time.process_time()
    for _ in range(20):
        left @ right
    return 20 * 2 * 512 * width * 4 * width / (time.process_time() - started)


def floor_seconds(scorer: LiveScorer, model: Any) -> float:
    """Return what the matrix products of the tree's nodes would take, the head at scored positions included."""
    body = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name)
    head = model.get_output_embeddings().weight.numel()
    work = 0.0
    for plan in scorer.plans:
        scored = sum(len(f.needed) for g in plan.groups for f in (*g.passes, *([g.prefix] if g.prefix else [])))
        work += 2.0 * body * plan.tokens_unique + 2.0 * head * scored
    return work / matmul_rate(model.config.hidden_size)


def compare(name: str, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> None:
    """Print one line about one case."""
    evaluation = prepare(CASES[name], arguments.data, arguments.questions, tokenizer)
    live = LiveScorer(model, tokenizer)
    peer = stock_scorer(model, tokenizer, batch_size=arguments.batch_size)
    evaluation.run(live)
    ours, theirs = [], []
    for _ in range(arguments.repeats):
        ours.append(timed(lambda: evaluation.run(live)))
        theirs.append(timed(lambda: evaluation.run(peer)))
    fast, slow = median(run.seconds for run in ours), median(run.seconds for run in theirs)
    cost = ours[-1].results.cost
    own = ours[-1].results.answers.set_index(["question", "metric"])["value"]
    other = theirs[-1].results.answers.set_index(["question", "metric"])["value"].reindex(own.index)
    native = [key for key in own.index if not key[1].startswith("gold_")]
    equal = all(own[key] == other[key] for key in native)
    floor = floor_seconds(live, model)
    print(
        f"{name:14} {len(evaluation.questions):4} questions  tokens {cost.tokens_full:7} -> {cost.tokens_run:6}"
        f"  HFLM {slow:7.2f} s  live {fast:7.2f} s  ratio {slow / fast:5.2f}"
        f"  floor x {fast / floor if floor else float('nan'):4.2f}"
        f"  answers {'equal' if equal else 'DIFFER'} (largest difference {(own - other).abs().max():.1e})",
        flush=True,
    )


def main() -> None:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", help="folder of a model")
    parser.add_argument("data", type=Path, help="folder with TASK/SPLIT.jsonl")
    parser.add_argument("--only", default=",".join(CASES), help="cases, separated by commas")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4, help="of HFLM")
    arguments = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    for name in arguments.only.split(","):
        compare(name, model, tokenizer, arguments)


if __name__ == "__main__":
    main()
