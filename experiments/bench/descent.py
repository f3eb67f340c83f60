"""CPU time of gradients: forward and backward pass of minibatches against the live scorer on the same questions.

    OMP_NUM_THREADS=1 python -m experiments.bench.descent MODEL

Questions of the demo, ``mini_arc`` and ``mini_gsm8k`` three to one, in minibatches. Sides take turns, the least time of
each counts. Gradients by every weight are multiplied with as many vectors of their size as there are parents (values of
a recipe with weights per tensor); low-rank parents are random factors for every linear layer but the head. Takes two
minutes with a model of 135M parameters; in its smallest form, ``--minibatches 1 --repeats 1``, half a minute.
"""

import argparse
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evals.engines.live.backward import BackwardPass, Differentiated
from evals.engines.live.engine import LiveScorer
from evals.engines.live.weight_products import LowRank, Sink
from evals.evaluation import Evaluation
from evals.prompts.requests import QuestionRequests
from evals.prompts.token_cache import TokenPair
from evals.tasks.loading import TaskSpec, load_tasks
from evals.tasks.sampling import Leaf

ARC, GSM8K = "mini_arc", "mini_gsm8k"
GOALS = {"every weight": 3.2, "low rank": 2.5}
RANK = 6
"""Of the demo's adapters."""

Run = Callable[[], object]


def questions(tokenizer: Any, arc: int, gsm8k: int) -> list[QuestionRequests]:
    """Return the demo's first questions with their requests."""
    specs = [
        TaskSpec(task=ARC, metric="gold_prob", num_fewshot=0),
        TaskSpec(task=GSM8K, metric="gold_bits_per_byte", num_fewshot=0),
    ]
    tasks = load_tasks(specs)
    asked = [
        question
        for task, count in zip(tasks, (arc, gsm8k), strict=True)
        for question in Leaf(task).test.questions(task.name)[:count]
    ]
    return list(Evaluation.build(tasks, asked, tokenizer=tokenizer).asked)


def likelihood_requests(one: QuestionRequests) -> list[Any]:
    """Return a question's requests that ask for log-likelihoods."""
    return [request for request in one.requests if request.request_type == "loglikelihood"]


def objective_of(asked: Sequence[QuestionRequests]) -> Callable[[Tensor], Tensor]:
    """Return the mean of gold probability and of two to the power of minus the bits per byte, by log-likelihoods."""
    sizes = [len(likelihood_requests(one)) for one in asked]

    def objective(likelihoods: Tensor) -> Tensor:
        gold, bits, size = [], likelihoods.new_zeros(()), 0
        for one, own in zip(asked, likelihoods.split(sizes), strict=True):  # type: ignore[no-untyped-call]  # torch has no types here
            if one.gold is None:
                continue
            if one.loaded.multiple_choice:
                gold.append(own[: len(one.own)].softmax(0)[list(one.gold.choices)].sum())
            else:
                bits, size = bits - own[-1] / torch.tensor(2.0).log(), size + len(one.gold.text.encode())
        return (torch.stack(gold).mean() + 2 ** (-bits / size)) / 2

    return objective


def every_weight(model: nn.Module, parents: int, found: list[Tensor]) -> list[tuple[nn.Parameter, Sink]]:
    """Return sinks that multiply each gradient with so many vectors of its size."""

    def sink(vectors: Sequence[Tensor]) -> Sink:
        return lambda gradient: found.extend(gradient.flatten() @ vector for vector in vectors)

    largest = max(parameter.numel() for parameter in model.parameters())
    drawn = [torch.randn(largest) for _ in range(parents)]
    return [(p, sink([vector[: p.numel()] for vector in drawn])) for p in model.parameters()]


def low_rank(model: Any, parents: int, found: list[Tensor]) -> list[LowRank]:
    """Return what is wanted of every linear layer but the head, for so many random parents."""
    head = model.get_output_embeddings()
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head]
    return [
        LowRank(
            name,
            tuple((torch.randn(RANK, m.in_features), torch.randn(m.out_features, RANK)) for _ in range(parents)),
            found.append,
        )
        for name, m in layers
    ]


def least(sides: dict[str, Run], repeats: int) -> dict[str, float]:
    """Return the least CPU time of each side, which take turns, in seconds; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, run in sides.items():
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    return {name: min(times[1:]) for name, times in seconds.items()}


def main() -> None:
    """Print one line per side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a model")
    parser.add_argument("--minibatches", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16, help="questions in each")
    parser.add_argument("--parents", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checkpoint", action="store_true", help="layers keep their inputs only")
    arguments = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logging.disable(logging.WARNING)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval().requires_grad_(False)
    scorer = LiveScorer(model, tokenizer)
    passes = BackwardPass(model, max_length=scorer.max_length, checkpoint=arguments.checkpoint or "auto")
    count, gsm8k = arguments.minibatches, max(1, arguments.batch // 4)
    asked = questions(tokenizer, count * (arguments.batch - gsm8k), count * gsm8k)
    batches = [asked[i::count] for i in range(count)]
    listed = [[request for one in batch for request in likelihood_requests(one)] for batch in batches]
    pairs: list[list[TokenPair]] = [[scorer.tokens.pair(*r.args) for r in requests] for requests in listed]
    found: list[Tensor] = []
    wanted = every_weight(model, arguments.parents, found), low_rank(model, arguments.parents, found)

    def differentiate(sinks: Sequence[tuple[nn.Parameter, Sink]], products: Sequence[LowRank]) -> list[Differentiated]:
        found.clear()
        several = zip(pairs, batches, strict=True)
        return [passes.run(own, objective_of(batch), sinks, products) for own, batch in several]

    sides: dict[str, Run] = {
        "scorer": lambda: scorer.loglikelihood([request for requests in listed for request in requests]),
        "log-likelihoods": lambda: [passes.loglikelihoods(own) for own in pairs],
        "every weight": lambda: differentiate(wanted[0], ()),
        "low rank": lambda: differentiate((), wanted[1]),
    }
    times = least(sides, arguments.repeats)
    tokens = sum(plan.tokens_run for plan in scorer.plans)
    print(f"{len(asked)} questions in {count} minibatches, {tokens} tokens, {arguments.parents} parents")
    for name, seconds in times.items():
        goal = f"  (goal {GOALS[name]})" if name in GOALS else ""
        print(f"{name:16} {seconds:7.2f} s CPU  x {seconds / times['scorer']:5.2f}{goal}")


if __name__ == "__main__":
    main()
