"""Writes what an evaluation found: per model one lm-eval results document and, if wanted, its samples."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evals.evaluation import Evaluation
from evals.lm_eval_files.results_file import BOOTSTRAP_ITERS, lm_eval_document, to_text, versions_of_libraries
from evals.lm_eval_files.samples_file import sample_lines, samples_of
from evals.scores.results import Results
from evals.suites import Shown, Suite
from evals.tasks.lm_eval_setup import LM_EVAL_SEEDS
from evals.tasks.loading import LoadedTask
from experiments.atomic_files import write_text_atomically
from experiments.evaluate.options import EvaluateOptions


@dataclass(frozen=True)
class Places:
    """Where documents go.

    Attributes:
        output: As given: ``NAME.json``, or a folder that is laid out as lm-eval's.
        columns: Names of all models; with several, ``NAME.json`` becomes ``NAME_COLUMN.json``.
    """

    output: Path | None
    columns: tuple[str, ...]

    def document(self, column: str, stamp: str) -> Path | None:
        """Return the file of a model's document."""
        if self.output is None:
            return None
        if self.output.suffix != ".json":
            return self.output / _plain(column) / f"results_{stamp}.json"
        if len(self.columns) == 1:
            return self.output
        return self.output.with_name(f"{self.output.stem}_{_plain(column)}.json")


@dataclass(frozen=True)
class ModelFacts:
    """What a document tells of its model.

    Attributes:
        name: Its column.
        reference: As given on the command line.
        recipe: The recipe that it was made with.
        model: The live model.
        tokenizer: Its tokenizer.
        options: How it was scored.
    """

    name: str
    reference: str
    recipe: Mapping[str, object]
    model: Any
    tokenizer: Any
    options: EvaluateOptions


def write_documents(
    places: Places,
    facts: ModelFacts,
    evaluation: Evaluation,
    tasks: Sequence[LoadedTask],
    suite: Suite | None,
    results: Results,
    log_samples: bool,  # noqa: FBT001 - the last of the facts
) -> Iterator[str]:
    """Write the document, and the samples beside it if wanted; go through lines that say where they are."""
    stamp = datetime.now().isoformat().replace(":", "-")  # noqa: DTZ005 - lm-eval's names carry local time
    file = places.document(facts.name, stamp)
    if file is None:
        return
    document = {**lm_eval_document(tasks, results), **_facts(facts, results), **_shown(suite, results)}
    if log_samples:
        samples = samples_of(evaluation, results)
        document["task_hashes"] = {leaf: _task_hash(listed) for leaf, listed in samples.items()}
        for leaf, listed in samples.items():
            write_text_atomically(file.with_name(f"samples_{leaf}_{file.stem}.jsonl"), sample_lines(listed))
    write_text_atomically(file, to_text(document))
    yield f"results of {facts.name}: {file}"
    if log_samples:
        yield f"samples of {facts.name}: {file.parent}/samples_*_{file.stem}.jsonl"


def _facts(facts: ModelFacts, results: Results) -> dict[str, Any]:
    options, tokenizer = facts.options, facts.tokenizer
    template = str(tokenizer.chat_template) if options.apply_chat_template else None
    return {
        "config": {
            "model": options.engine,
            "model_args": {"pretrained": facts.reference, "dtype": options.dtype},
            "model_num_parameters": sum(parameter.numel() for parameter in facts.model.parameters()),
            "model_dtype": options.dtype,
            "batch_size": None,
            "batch_sizes": [],
            "device": options.device,
            "use_cache": None,
            "limit": options.limit,
            "bootstrap_iters": BOOTSTRAP_ITERS,
            "gen_kwargs": None,
            "random_seed": LM_EVAL_SEEDS["python"],
            "numpy_seed": LM_EVAL_SEEDS["numpy"],
            "torch_seed": LM_EVAL_SEEDS["torch"],
            "fewshot_seed": LM_EVAL_SEEDS["fewshot"],
        },
        "date": time.time(),
        **versions_of_libraries(),
        "tokenizer_pad_token": [tokenizer.pad_token, str(tokenizer.pad_token_id)],
        "tokenizer_eos_token": [tokenizer.eos_token, str(tokenizer.eos_token_id)],
        "tokenizer_bos_token": [tokenizer.bos_token, str(tokenizer.bos_token_id)],
        "eot_token_id": tokenizer.eos_token_id,
        "model_source": options.engine,
        "model_name": facts.reference,
        "model_name_sanitized": _plain(facts.reference),
        "system_instruction": options.system_instruction,
        "system_instruction_sha": _sha(options.system_instruction),
        "fewshot_as_multiturn": options.fewshot_as_multiturn,
        "chat_template": template,
        "chat_template_sha": _sha(template),
        "total_evaluation_time_seconds": str(results.cost.seconds),
        "mergesearch": {
            "recipe": dict(facts.recipe),
            "tokens_run": results.cost.tokens_run,
            "tokens_asked": results.cost.tokens_full,
        },
    }


def _shown(suite: Suite | None, results: Results) -> dict[str, Any]:
    """Return the suite's scores as its source shows them, under a key of our own."""
    if suite is None:
        return {}
    rows = {**suite.task_rows(results), **suite.category_rows(results), "average": suite.average_row(results)}
    told: dict[str, Any] = {name: _pair(row) for name, row in rows.items()}
    return {"suite": {"name": suite.name, "left_out": list(suite.left_out), "scores": told}}


def _pair(row: Shown) -> dict[str, float | None]:
    return {"value": row.value, "stderr": row.stderr}


def _task_hash(samples: Sequence[Mapping[str, Any]]) -> str:
    """Return lm-eval's hash of what a task asked."""
    text = "".join(sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"] for sample in samples)
    return hashlib.sha256(text.encode()).hexdigest()


def _sha(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def _plain(name: str) -> str:
    """Return a name that is one part of a path, as lm-eval makes it."""
    return "".join(c if c.isalnum() or c in "-_.+" else "__" if c == "/" else "_" for c in name).strip(".") or "model"
