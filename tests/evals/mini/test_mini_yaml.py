"""The task files: each includes lm-eval's own task and changes nothing but names and data."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.evals.mini.rows import MINI, SUBJECTS

DATA_KEYS = {
    "include", "task", "tag", "dataset_path", "dataset_name", "dataset_kwargs",
    "training_split", "validation_split", "test_split", "fewshot_split",
}  # fmt: skip
LEAVES = sorted(path.stem for path in MINI.glob("*.yaml") if "include" in path.read_text(encoding="utf-8"))
GROUPS = ("mini_mmlu", "mini_mmlu_continuation")


def load(name: str) -> dict[str, Any]:
    """Return one of the suite's YAML documents."""
    document = yaml.safe_load((MINI / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def site_packages() -> Path:
    """Return the folder that holds the installed lm_eval package, without importing it."""
    spec = find_spec("lm_eval")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.parent


def test_all_tasks_are_there() -> None:
    subjects = {f"{group}_{subject}" for group in GROUPS for subject in SUBJECTS}
    assert set(LEAVES) == {"mini_arc", "mini_gsm8k", "mini_ifeval"} | subjects


@pytest.mark.parametrize("name", LEAVES)
def test_a_task_changes_only_the_data_of_lm_evals_own(name: str) -> None:
    document = load(name)
    assert document["task"] == name
    assert set(document) <= DATA_KEYS
    assert (site_packages() / document["include"]).is_file()
    assert document["dataset_path"] == "json"
    assert document["dataset_name"] is None


@pytest.mark.parametrize("name", LEAVES)
def test_every_part_is_a_file_and_every_split_a_part(name: str) -> None:
    document = load(name)
    parts = document["dataset_kwargs"]["data_files"]
    assert all((MINI / path).is_file() and Path(path).stem == part for part, path in parts.items())
    assert {value for key, value in document.items() if key.endswith("_split")} <= set(parts)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_lists_every_subject_and_weights_by_size(group: str) -> None:
    document = load(group)
    assert document["task"] == [f"{group}_{subject}" for subject in SUBJECTS]
    assert all(entry["weight_by_size"] for entry in document["aggregate_metric_list"])
