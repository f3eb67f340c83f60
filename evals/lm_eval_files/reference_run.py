"""Evaluates a model folder as people's own scripts do: task files, lm-eval's ``simple_evaluate``, HFLM.

This is what the project is measured against (``experiments/bench/peers.py``); nothing else uses it. A task file
includes the registry's own task and gives it other rows, so that both sides are asked the same questions.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evals.tasks.index import find_files, lm_eval_folder
from evals.tasks.lm_eval_setup import offline
from evals.tasks.loading import LoadedTask
from evals.tasks.metrics import GOLD_BITS, GOLD_PROB, bits_per_byte, gold_probability
from evals.tasks.sampling import Leaf, Question


def write_task(loaded: LoadedTask, questions: Sequence[Question], folder: Path) -> str:
    """Write the file of a task that asks these questions; return the task's name.

    A task that generates becomes one of the likelihood of its gold text after the same prompt.
    """
    leaf, name = Leaf.of(loaded), f"asked_{loaded.name}"
    rows = [leaf.split(question.split).docs[question.index] for question in questions if question.task == loaded.name]
    files, shots = {"test": _write_rows(rows, folder / f"{name}.jsonl")}, loaded.spec.num_fewshot or 0
    if shots:
        files["examples"] = _write_rows(list(loaded.task.fewshot_docs()), folder / f"{name}-examples.jsonl")
    registered = find_files(loaded.name, [lm_eval_folder() / "tasks"], loaded.name)[loaded.name]
    document: dict[str, object] = {
        "include": str(registered),
        "task": name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
        "training_split": None,
        "validation_split": None,
        "fewshot_split": "examples" if shots else None,
        "test_split": "test",
        "num_fewshot": shots,
    }
    if not loaded.multiple_choice:
        document |= {"output_type": "loglikelihood", "metric_list": [{"metric": "perplexity"}], "filter_list": None}
        # a task of likelihoods puts no delimiter before the target
        delimiter, target = (loaded.task.get_config(key) for key in ("target_delimiter", "doc_to_target"))
        document |= {"generation_kwargs": None, "doc_to_target": f"{delimiter}{target}"}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    return name


def _write_rows(rows: Sequence[Mapping[str, object]], file: Path) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file.resolve())


class StockRun:
    """lm-eval over the task files of a folder.

    Args:
        folder: What ``write_task`` wrote.
        batch_size: HFLM's.
    """

    def __init__(self, folder: Path, batch_size: int) -> None:
        with offline():
            from lm_eval.tasks import TaskManager

            self._manager = TaskManager(include_path=str(folder), include_defaults=False)
        self._batch_size = batch_size

    def samples(self, model: Path, names: Sequence[str]) -> Mapping[str, list[dict[str, Any]]]:
        """Return what a model folder answers, by task, as lm-eval logs it."""
        with offline():
            from lm_eval import simple_evaluate

            found = simple_evaluate(
                model="hf",
                model_args={"pretrained": str(model), "dtype": "float32"},
                tasks=list(names),
                task_manager=self._manager,
                device="cpu",
                batch_size=self._batch_size,
                bootstrap_iters=0,
            )
        if found is None:
            raise RuntimeError("lm_eval.simple_evaluate: gave no results")
        return {name: found["samples"][name] for name in names}


def gold_score(samples: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    """Return the likelihood metric that lm-eval's logged answers allow, and its value."""
    answers = [[float(response[0][0]) for response in sample["resps"]] for sample in samples]
    if len(answers[0]) > 1:
        shares = [gold_probability(one, [int(s["target"])]) for one, s in zip(answers, samples, strict=True)]
        return GOLD_PROB, sum(shares) / len(shares)
    size = sum(len(str(sample["target"]).lstrip().encode()) for sample in samples)
    return GOLD_BITS, bits_per_byte(sum(one[0] for one in answers), size)
