"""Merges, proposals and a study, told as hashes; run as processes of their own that differ in what must not matter."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import optuna
import torch
import yaml
from transformers import AutoModelForCausalLM

from merge.merger import Merger
from merge.recipe.schema import Recipe
from search.loop.run import run_search
from search.study.study import parse_study
from tests.search.recorder import Recorder
from tests.search.samplers.test_samplers import MIXED, TWO, near, run, spaces
from tests.search.studies import tiny_study

SPARSE = {"weight": 0.6, "density": 0.4}
METHODS: dict[str, dict[str, float]] = {
    "linear": {"weight": 0.6},
    "ties": SPARSE,
    "dare_ties": SPARSE,
    "dare_linear": SPARSE,
    "della": SPARSE,
    "della_linear": SPARSE,
}
PARENTS = ("math", "science")


def digest(value: object) -> str:
    """Return a short hash of plain values."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def weights_of(model: torch.nn.Module) -> str:
    """Return a short hash of all weights."""
    whole = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:16]


def merges(models: Path, order: tuple[str, ...], keep: int | None) -> dict[str, str]:
    """Merge with every method, the parents opened and listed in an order, kept in memory or mapped."""
    merger = Merger([models], seed=7, keep_bytes=keep)
    live = AutoModelForCausalLM.from_pretrained(models / "base", dtype=torch.float32)
    for name in order:
        merger.checkpoint(name)
    found = {}
    for method, values in METHODS.items():
        own = {name: {**values, "weight": values["weight"] / (1 + (name == "science"))} for name in PARENTS}
        document: dict[str, Any] = {
            "merge_method": method,
            "models": [{"model": name, "parameters": own[name]} for name in order],
        }
        if method != "linear":
            document["base_model"] = "base"
        if "della" in method:
            document["parameters"] = {"epsilon": 0.1}
        merger.merge_live(Recipe.from_mapping(document, place=method), live)
        found[method] = weights_of(live)
    return found


def proposals() -> dict[str, str]:
    """Return what samplers that learn propose in a space with families, choices and conditional holes."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = spaces(mixed=MIXED, two=TWO)
    return {name: digest(run(name, space, near, 20)) for name in ("tpe", "cmaes", "nsga2")}


def study(models: Path, folder: Path, workers: int) -> dict[str, str]:
    """Run a study of masked and plain merges; return every candidate's values, scores and answers.

    Models run on one thread everywhere: sums inside matrix products depend on how many share them.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    document = yaml.safe_load(tiny_study(trials=3, sampler="random", race=False, workers=workers, mask_seeds=1))
    document["families"]["dare"] = {**document["families"].pop("ties"), "merge_method": "dare_ties"}
    heard = Recorder()
    parsed = parse_study(yaml.safe_dump(document, sort_keys=False), place="tiny.yaml")
    run_search(parsed, folder, observer=heard, models_roots=[models])
    found = {}
    for record in heard.records:
        assert record.results is not None
        answers = record.results.answers.sort_values(["task", "leaf", "metric", "question"])
        told = [dict(record.params), dict(record.metrics), record.recipe_yaml, answers.to_csv(index=False)]
        found[f"{record.name} {record.part}"] = digest(told)
    return found


def main() -> None:
    """Write everything: MODELS FOLDER ORDER KEEP WORKERS."""
    models, folder, order, keep, workers = sys.argv[1:]
    found = {
        **merges(Path(models), tuple(order.split(",")), None if keep == "kept" else 0),
        **proposals(),
        **study(Path(models), Path(folder), int(workers)),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
