"""docs/study-file.md and the JSON schema: as the code has them, and in agreement with what ``load_study`` takes."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from typer.testing import CliRunner

from experiments.cli import app
from experiments.reference.study_file import PAGE, ROOT, SCHEMA, definition_of, page
from experiments.reference.study_sections import SECTIONS, Section
from search.errors import SearchError
from search.study.json_schema import schema_text, study_schema
from search.study.study import LoadedStudy

READY = sorted(
    path
    for path in [*(ROOT / "experiments" / "studies").rglob("*.yaml"), ROOT / "experiments" / "demo" / "study.yaml"]
    if path.parent.name != "recipes"
)
SCHEMA_OF_STUDIES = study_schema()
VALIDATOR = Draft7Validator(SCHEMA_OF_STUDIES)


def test_the_page_and_the_schema_are_those_of_the_code() -> None:
    """Write both again with ``python -m experiments.reference.study_file``."""
    assert PAGE.read_text(encoding="utf-8") == page()
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def test_the_command_prints_the_schema_or_writes_it(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["schema"])
    assert json.loads(printed.stdout) == SCHEMA_OF_STUDIES
    assert CliRunner().invoke(app, ["schema", "--out", str(tmp_path / "file.json")]).exit_code == 0
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == printed.stdout
    Draft7Validator.check_schema(SCHEMA_OF_STUDIES)


@pytest.mark.parametrize("path", READY, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_ready_study_names_the_schema_and_is_valid(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    mark, _, name = text.splitlines()[0].partition("=")
    assert mark == "# yaml-language-server: $schema"
    assert (path.parent / name).resolve() == SCHEMA
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize("section", [s for s in SECTIONS if s.example], ids=lambda section: section.title)
def test_an_example_shows_every_key_of_its_section_and_is_valid(section: Section) -> None:
    node = definition_of(section, SCHEMA_OF_STUDIES)
    document: Any = yaml.safe_load(section.example)
    for key in node["properties"]:
        assert f"{key}:" in section.example
    if section.definition in ("Range", "Choice"):
        assert all(is_valid(hole, node) for hole in document.values())
    else:
        assert is_valid(document, node)
    if not section.definition:
        LoadedStudy(document, place="study.yaml")


def is_valid(document: object, node: Mapping[str, Any]) -> bool:
    return bool(Draft7Validator({**node, "$defs": SCHEMA_OF_STUDIES["$defs"]}).is_valid(document))


STUDY: dict[str, Any] = {
    "study": "small",
    "families": {
        "ties": {
            "merge_method": "ties",
            "base_model": "base",
            "models": [{"model": "a", "parameters": {"weight": {"low": 0.0, "high": 1.0}}}, {"model": "b"}],
            "parameters": {"weight": 0.5, "density": [0.2, {"choices": [0.5, 1.0]}]},
        },
        "stack": {
            "merge_method": "passthrough",
            "slices": [
                {"sources": [{"model": "a", "layer_range": [0, 4]}]},
                {"repeat": {"low": 0, "high": 1, "int": True}, "sources": [{"model": "b", "layer_range": [2, 4]}]},
            ],
        },
    },
    "evaluate": {"tasks": [{"task": "t", "metric": "acc"}]},
    "search": {"trials": 8},
    "constraints": {"t/acc": {"at_least": "0.9 of base"}},
}


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the study with another value at a path of keys and numbers; without it where the value is Ellipsis."""
    document = copy.deepcopy(STUDY)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    node: Any = document
    for step in steps:
        node = node[step]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return document


WEIGHT = "families.ties.models.0.parameters.weight"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("study", "a b"),
        ("study", ...),
        ("families", {}),
        ("famlies", {}),
        ("evaluate", ...),
        ("evaluate.task", []),
        ("evaluate.suite", "core"),
        ("evaluate.tasks.0.metrics", "acc"),
        ("evaluate.tasks.0.num_fewshot", -1),
        ("evaluate.tasks.0.task", ...),
        ("evaluate.questions", {"search": 0}),
        ("evaluate.engine", "tgi"),
        ("search.trials", -1),
        ("search.sampler", "cma"),
        ("search.budget", 5),
        ("search.race_level", 0.5),
        ("constraints", {"t": {"at_least": 0.5}}),
        ("constraints.t/acc", {}),
        ("constraints.t/acc.at_least", "most of base"),
        ("tracking", {"wandb": "x"}),
        ("families.ties.merge_method", "tie"),
        ("families.ties.merge_method", ...),
        ("families.ties.models", ...),
        ("families.ties.slices", []),
        ("families.ties.dtype", "int8"),
        ("families.ties.base", "base"),
        ("families.ties.models.0.weight", 1.0),
        ("families.ties.models.0.model", 3),
        ("families.ties.parameters.density", 1.5),
        ("families.ties.parameters.densty", 0.5),
        (WEIGHT, {"low": 0.0}),
        (WEIGHT, {"low": 0.0, "high": 1.0, "steps": 3}),
        (WEIGHT, {"low": 0.0, "high": 1.0, "gradient": 0}),
        (WEIGHT, {"choices": []}),
        (WEIGHT, [{"filter": "mlp"}]),
        ("families.stack.slices.0.sources.0.layer_range", [0]),
        ("families.stack.slices.0.sources.0.layer_range", ...),
        ("families.stack.slices.0.repeat", -1),
        ("families.stack.slices.1.order", "first"),
        ("baselines", {"known": STUDY["families"]["ties"]}),
    ],
)
def test_what_a_study_refuses_the_schema_refuses(path: str, value: object) -> None:
    assert VALIDATOR.is_valid(STUDY)
    LoadedStudy(STUDY, place="study.yaml")
    document = changed(path, value)
    assert not VALIDATOR.is_valid(document)
    with pytest.raises((SearchError, ValueError)):
        LoadedStudy(document, place="study.yaml")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (WEIGHT, [0.1, 0.5]),
        (WEIGHT, {"low": 0.0, "high": 1.0, "gradient": 3, "name": "w"}),
        (WEIGHT, [{"filter": "mlp", "value": {"low": 0.0, "high": 1.0}}, {"value": 0.5}]),
        ("families.ties.merge_method", {"choices": ["ties", "dare_ties"]}),
        ("families.ties.models.0.model", {"choices": ["a", "c"]}),
        ("families.ties.models.0.model", {"model": {"path": "a", "revision": "main"}, "lora": "b"}),
        ("families.ties.dtype", {"choices": ["float16", "bfloat16"]}),
        ("families.stack.slices.0.sources.0.layer_range", [0, {"low": 2, "high": 4, "int": True}]),
        ("families.stack.slices.0.sources.0.layer_range", {"start": {"low": 0, "high": 2, "int": True}, "length": 2}),
        ("families.stack.slices.0.order", {"low": 0.0, "high": 1.0}),
        ("evaluate.questions", {"search": {"t": 10}, "test": "all"}),
        ("store", None),
        ("tracking", {"mlflow": None}),
    ],
)
def test_what_a_study_takes_the_schema_takes(path: str, value: object) -> None:
    document = changed(path, value)
    LoadedStudy(document, place="study.yaml")
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []
