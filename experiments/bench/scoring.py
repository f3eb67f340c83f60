"""CPU time of scoring one model: the live scorer against lm-eval's ``HFLM``, on the same requests.

    OMP_NUM_THREADS=1 python -m experiments.bench.scoring MODEL DATA --only arc-0,mmlu-5 --questions 12

Peer: ``HFLM`` of the installed lm-eval, in the same process, in turn (A B A B), at the batch size that suits it best.
Takes about 40 minutes for all eight cases with a model of 135M parameters; in its smallest form,
``--only arc-0 --questions 4 --repeats 1 --batch-sizes 4``, half a minute.

Both sides score the same prepared requests, so lm-eval's own work of building prompts anew for every model is not
counted against it. HFLM's batch size is chosen on a few of the questions. The first run of the live scorer, in
which tokens are made and passes planned, is not counted; the columns "tokenised again" and "metrics" (filters and
metrics on replayed answers) show that the later ones do no such work.

The floor is what a forward pass over the unique tokens must compute (linear layers, attention, the head where
something is scored), at the rate at which this machine multiplies the model's own matrices just before and after.
"""

import argparse
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from evals.engines.common.hflm import stock_scorer
from evals.engines.live.engine import LiveScorer
from evals.engines.live.onednn_linear import OneDnnLinear, fast_products
from evals.evaluation import Evaluation
from evals.scores.results import Results
from evals.tasks.loading import LoadedTask, TaskSpec, load_tasks
from evals.tasks.sampling import Leaf, Question

ROWS = 512
"""Rows of the matrix products that measure the machine's rate."""


@dataclass(frozen=True)
class Case:
    """One kind of task.

    Attributes:
        spec: The task.
        goal: Least ratio to reach.
        questions: How many are asked.
        longest: Most tokens of a text where the task's own limit would take too long here; it favours HFLM, which
            waits for the longest text of a batch.
    """

    spec: TaskSpec
    goal: float
    questions: int = 12
    longest: int | None = None

    @property
    def generates(self) -> bool:
        """Tell whether texts are generated."""
        return self.spec.task in {"gsm8k", "ifeval"}

    @property
    def texts(self) -> int:
        """Return how many texts HFLM runs for a question: choices of one token share one."""
        return 1 if self.generates or self.spec.task.startswith("mmlu") else 4


CASES = {
    "arc-0": Case(TaskSpec(task="arc_easy", num_fewshot=0), 3.3, 24),
    "arc-25": Case(TaskSpec(task="arc_challenge", num_fewshot=25), 4.5, 8),
    "arc-25-fixed": Case(TaskSpec(task="arc_challenge", num_fewshot=25, fewshot="fixed"), 15),
    "mmlu-5": Case(TaskSpec(task="mmlu_anatomy", num_fewshot=5), 7, 67),
    "hellaswag-10": Case(TaskSpec(task="hellaswag", num_fewshot=10), 4, 8),
    "gsm8k-5": Case(TaskSpec(task="gsm8k", num_fewshot=5), 2),
    "gsm8k-5-fixed": Case(TaskSpec(task="gsm8k", num_fewshot=5, fewshot="fixed"), 3),
    "ifeval": Case(TaskSpec(task="ifeval"), 1.7, longest=256),
}


@dataclass(frozen=True)
class Timed:
    """One run, in seconds of CPU time of this process."""

    results: Results
    seconds: float


def timed(run: Callable[[], Results]) -> Timed:
    """Run once."""
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


def best_peer(model: Any, tokenizer: Any, evaluation: Evaluation, few: Sequence[Question], sizes: Sequence[int]) -> Any:
    """Return HFLM at the batch size that scores `few` fastest; larger ones are tried while they do not fall behind."""
    seconds: dict[int, float] = dict.fromkeys(sizes, 0.0) if len(sizes) == 1 else {}
    for size in () if seconds else sizes:
        peer = stock_scorer(model, tokenizer, batch_size=size)
        seconds[size] = timed(lambda peer=peer: evaluation.run(peer, few)).seconds  # type: ignore[misc]
        tried = list(seconds.values())
        if len(tried) > 2 and min(tried[-2:]) > 1.1 * min(tried):
            break
    return stock_scorer(model, tokenizer, batch_size=min(seconds, key=seconds.__getitem__))


def matrices(model: Any) -> list[torch.Tensor]:
    """Return the weights of the model's linear layers, the head left out."""
    head = model.get_output_embeddings()
    return [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]


@torch.inference_mode()
def matmul_rate(model: Any) -> float:
    """Return the floating point operations per second of the model's linear layers, one after another, as scored."""
    inputs = {w.shape[1]: torch.randn(ROWS, w.shape[1], dtype=w.dtype) for w in matrices(model)}
    with fast_products(model):
        kinds, head = (torch.nn.Linear, OneDnnLinear), model.get_output_embeddings()
        layers = [m for m in model.modules() if isinstance(m, kinds) and m is not head]
        started = time.process_time()
        for layer in layers:
            layer(inputs[layer.in_features])
        return sum(2.0 * ROWS * m.weight.numel() for m in layers) / (time.process_time() - started)


def work(scorer: LiveScorer, model: Any) -> float:
    """Return the floating point operations that the plans' unique tokens need."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 4.0 * config.num_attention_heads * width * config.num_hidden_layers
    body = 2.0 * sum(w.numel() for w in matrices(model))
    head = 2.0 * model.get_output_embeddings().weight.numel()
    total = 0.0
    for plan in scorer.plans:
        scored = sum(len(f.needed) for g in plan.groups for f in (*g.passes, *([g.prefix] if g.prefix else [])))
        total += body * plan.tokens_unique + attention * plan.pairs_unique + head * scored
    return total


class Replay:
    """Answers as a model did before: what is left of a run's time is the harness's."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._answers = {id(r): list(r.resps) for one in evaluation.asked for r in one.requests}

    def _all(self, requests: Sequence[Any], **_: Any) -> list[Any]:
        return [self._answers[id(request)][0] for request in requests]

    loglikelihood = generate_until = loglikelihood_rolling = _all


def compare(name: str, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> None:
    """Print one line about one case."""
    case = CASES[name]
    evaluation = prepare(case, arguments.data, arguments.questions or case.questions, tokenizer)
    live = LiveScorer(model, tokenizer)
    evaluation.run(live)
    made = live.tokens.made
    sizes = [int(size) for size in arguments.batch_sizes.split(",")]
    few = evaluation.questions[: max(2, max(sizes) // case.texts)]
    peer = best_peer(model, tokenizer, evaluation, few, sizes)
    ours, theirs, rates = [], [], [matmul_rate(model)]
    for _ in range(arguments.repeats):
        ours.append(timed(lambda: evaluation.run(live)))
        rates.append(matmul_rate(model))
        theirs.append(timed(lambda: evaluation.run(peer)))
    host = median(timed(lambda: evaluation.run(Replay(evaluation))).seconds for _ in range(3))
    fast, slow = median(run.seconds for run in ours), median(run.seconds for run in theirs)
    beside = [run.seconds * (a + b) / 2 for run, (a, b) in zip(ours, pairwise(rates), strict=True)]
    floor = None if case.generates else min(beside) / work(live, model)
    cost, count = ours[-1].results.cost, len(evaluation.questions)
    print(
        f"{name:14} {count:4} questions  tokens {cost.tokens_full:7} -> {cost.tokens_run:6}"
        f"  HFLM({peer.batch_size}) {slow:7.2f} s  live {fast:7.2f} s"
        f"  ratio {slow / fast:5.2f} (goal {case.goal})"
        f"  floor x {'  - ' if floor is None else format(floor, '4.2f')}"
        f"  metrics {1000 * host / count:4.1f} ms/question  tokenised again {live.tokens.made - made}"
        f"  answers {_equality(ours[-1].results, theirs[-1].results)}",
        flush=True,
    )


def _equality(ours: Results, theirs: Results) -> str:
    own = ours.answers.set_index(["question", "metric"])["value"]
    other = theirs.answers.set_index(["question", "metric"])["value"].reindex(own.index)
    native = [key for key in own.index if not key[1].startswith("gold_")]
    differing = sum(own[key] != other[key] for key in native)
    largest = (own - other).abs().max()
    return f"{'equal' if not differing else f'DIFFER in {differing}'} (largest difference {largest:.1e})"


def main() -> None:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a model")
    parser.add_argument("data", type=Path, help="folder with TASK/SPLIT.jsonl")
    parser.add_argument("--only", default=",".join(CASES), help="cases, separated by commas")
    parser.add_argument("--questions", type=int, default=None, help="unset: each case's own number")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--batch-sizes", default="1,2,4,8,16", help="of HFLM; the best is taken")
    arguments = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logging.disable(logging.WARNING)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    for name in arguments.only.split(","):
        compare(name, model, tokenizer, arguments)


if __name__ == "__main__":
    main()
