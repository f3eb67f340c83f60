"""Trains the demo's adapters again: ``python -m experiments.demo.train_adapters --data DIR --adapter math ...``.

LoRA on all seven linear layers; loss on the answer's tokens alone; AdamW, a short warm-up, then linear decay to zero.
Needs the extra ``train`` (peft).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from torch import Tensor

from experiments.atomic_files import write_bytes_atomically, write_text_atomically
from experiments.errors import InputError
from experiments.exit_codes import explained

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LETTERS = "ABCDEFGH"
IGNORED = -100
"""The label that torch's cross entropy passes over."""


@dataclass(frozen=True)
class TrainingPlan:
    """How one adapter is trained.

    Attributes:
        lr: Learning rate after the warm-up.
        batch: Examples of a step.
        steps: Steps.
        longest: Examples of more tokens are left out.
        rank: Rank of the adapter; its alpha is twice that.
        warmup: Steps until the full learning rate.
        clip: Largest norm of the gradient.
        seed: Decides the first values and the order of examples.
    """

    lr: float
    batch: int
    steps: int
    longest: int
    rank: int = 6
    warmup: int = 5
    clip: float = 1.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * (self.steps - step) / max(self.steps - self.warmup, 1)


PLANS = {
    "math": TrainingPlan(lr=2e-3, batch=4, steps=78, longest=150),
    "science": TrainingPlan(lr=1.5e-3, batch=8, steps=89, longest=110),
}


@dataclass(frozen=True)
class TrainingText:
    """One question with its answer.

    Attributes:
        prompt: What is given.
        answer: What is learned, with the space before it.
        ends: Whether the end mark is learned too.
    """

    prompt: str
    answer: str
    ends: bool = True


@dataclass(frozen=True)
class Example:
    """The tokens of a text.

    Attributes:
        tokens: Prompt, answer and end mark.
        start: Where the answer begins.
    """

    tokens: tuple[int, ...]
    start: int


def read_texts(adapter: str, data: Path) -> list[TrainingText]:
    """Return an adapter's training texts, in the order of the data.

    Args:
        adapter: ``math`` or ``science``.
        data: Folder with ``gsm8k``, or with ``arc_challenge``, ``arc_easy`` and ``mmlu``.

    Raises:
        InputError: A file is missing.
    """
    if adapter == "math":
        return [
            TrainingText(f"Question: {row['question']}\nAnswer:", f" {row['answer']}") for row in _rows(data / "gsm8k")
        ]
    challenge = [_arc(row) for row in _rows(data / "arc_challenge")]
    easy = [_arc(row) for row in _rows(data / "arc_easy")]
    subjects = sorted(path.parent for path in data.glob("mmlu/*/dev.jsonl"))
    letters = [_letter(row) for subject in subjects for row in _rows(subject, "dev")]
    return [*challenge, *challenge, *easy, *letters]


def encode(texts: Iterable[TrainingText], tokenizer: "PreTrainedTokenizerBase", *, longest: int) -> list[Example]:
    """Return the examples of at most ``longest`` tokens."""
    end = tokenizer.eos_token_id
    examples = []
    for text in texts:
        prompt = tokenizer(text.prompt, add_special_tokens=False)["input_ids"]
        answer = tokenizer(text.answer, add_special_tokens=False)["input_ids"]
        tokens = (*prompt, *answer, *([end] if text.ends else []))
        if len(tokens) <= longest:
            examples.append(Example(tokens, len(prompt)))
    return examples


def collate(examples: Sequence[Example], *, padding: int) -> dict[str, Tensor]:
    """Return a batch padded on the right; only answers have labels."""
    length = max(len(example.tokens) for example in examples)
    ids = torch.full((len(examples), length), padding)
    labels = torch.full((len(examples), length), IGNORED)
    mask = torch.zeros((len(examples), length), dtype=torch.long)
    for row, example in enumerate(examples):
        size = len(example.tokens)
        ids[row, :size] = torch.tensor(example.tokens)
        mask[row, :size] = 1
        labels[row, example.start : size] = ids[row, example.start : size]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def train(model: "PeftModel", examples: Sequence[Example], plan: TrainingPlan, *, padding: int) -> Iterator[float]:
    """Train in place; yield the loss of each step."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=plan.lr)
    generator = torch.Generator().manual_seed(plan.seed)
    order = _endless(len(examples), generator)
    model.train()
    for step in range(plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        batch = [examples[next(order)] for _ in range(plan.batch)]
        loss = model(**collate(batch, padding=padding)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, plan.clip)
        optimizer.step()
        yield float(loss.detach())


def make_adapter(adapter: str, *, base: Path, data: Path, out: Path, plan: TrainingPlan) -> list[float]:
    """Train an adapter and write it to a folder; return the loss of each step.

    Raises:
        InputError: Data or base model are not there, or no example is short enough.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (base / "config.json").is_file():
        raise InputError(f"--base {base}: must be the folder of the base model, has no config.json")
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    examples = encode(read_texts(adapter, data), tokenizer, longest=plan.longest)
    if not examples:
        raise InputError(f"--data {data}: must hold a text of at most {plan.longest} tokens, got none")
    typer.echo(f"{adapter}: {len(examples)} examples, {plan.steps} steps of {plan.batch}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=False)
        model = _with_adapter(plain, plan)
        losses = []
        for step, loss in enumerate(train(model, examples, plan, padding=tokenizer.eos_token_id), start=1):
            losses.append(loss)
            typer.echo(f"step {step} of {plan.steps}: loss {loss:.3f}")
    _save(model, out, base_name="/".join(base.resolve().parts[-2:]))
    return losses


def main(
    adapter: Annotated[str, typer.Option(help="math or science.")],
    data: Annotated[Path, typer.Option(help="Folder of benchmark data, DIR/TASK/SPLIT.jsonl.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    out: Annotated[Path, typer.Option(help="Folder to write the adapter to.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Steps, instead of the plan's.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; the demo's adapters were made with one.")] = 1,
) -> None:
    """Train one of the demo's adapters again."""
    with explained():
        if adapter not in PLANS:
            raise InputError(f"--adapter: must be one of {', '.join(PLANS)}, got '{adapter}'")
        plan = PLANS[adapter]
        if steps is not None:
            plan = TrainingPlan(lr=plan.lr, batch=plan.batch, steps=steps, longest=plan.longest)
        torch.set_num_threads(threads)
        losses = make_adapter(adapter, base=base, data=data, out=out, plan=plan)
        first, last = losses[:10], losses[-10:]
        typer.echo(f"loss {sum(first) / len(first):.2f} -> {sum(last) / len(last):.2f}; adapter: {out}")


def _with_adapter(model: torch.nn.Module, plan: TrainingPlan) -> "PeftModel":
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        r=plan.rank,
        lora_alpha=2 * plan.rank,
        lora_dropout=0.0,
        target_modules=list(LAYERS),
        task_type=TaskType.CAUSAL_LM,
    )
    return get_peft_model(model, config)


def _save(model: "PeftModel", out: Path, *, base_name: str) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    weights = {name: weight.half().contiguous() for name, weight in get_peft_model_state_dict(model).items()}
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": base_name, "inference_mode": True}
    document = json.dumps(config, indent=2, sort_keys=True, default=sorted)
    write_bytes_atomically(out / "adapter_model.safetensors", save(weights, metadata={"format": "pt"}))
    write_text_atomically(out / "adapter_config.json", document + "\n")


def _endless(count: int, generator: torch.Generator) -> Iterator[int]:
    """Go through the examples in a new order each time round, without end."""
    while True:
        yield from torch.randperm(count, generator=generator).tolist()


def _rows(folder: Path, split: str = "train") -> list[dict[str, object]]:
    path = folder / f"{split}.jsonl"
    if not path.is_file():
        raise InputError(f"{path}: must be there, is not; give the folder of benchmark data with --data")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _arc(row: dict[str, object]) -> TrainingText:
    choices = row["choices"]
    assert isinstance(choices, dict)
    answer = choices["text"][choices["label"].index(row["answerKey"])]
    return TrainingText(f"Question: {row['question']}\nAnswer:", f" {answer}")


def _letter(row: dict[str, object]) -> TrainingText:
    """Return an MMLU question as lm-eval asks it, answered by its letter."""
    choices, answer = row["choices"], row["answer"]
    assert isinstance(choices, list)
    assert isinstance(answer, int)
    listed = "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    subject = str(row["subject"]).replace("_", " ")
    head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    return TrainingText(f"{head}{str(row['question']).strip()}{listed}\nAnswer:", f" {LETTERS[answer]}", ends=False)


if __name__ == "__main__":
    typer.run(main)
