"""`mergesearch space`: every hole with its range and the trials it deserves, and a warning above the budget."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from experiments.cli import app
from search.proposals.trial_budget import budget_of
from search.study.study import parse_study
from tests.search.studies import tiny_study


def shown(tmp_path: Path, text: str) -> str:
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["space", str(file)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_every_hole_is_shown_with_its_range_and_a_budget_that_is_too_small_is_told(tmp_path: Path) -> None:
    output = shown(tmp_path, tiny_study())
    for words in ("models.math.weight", "0.1 to 1", "t.0", "sampler tpe", "6 dimensions"):
        assert words in output
    assert "warning: the holes deserve 60 trials, the study has 6" in output


def test_a_budget_that_covers_the_space_is_not_warned_of(tmp_path: Path) -> None:
    assert "warning" not in shown(tmp_path, tiny_study(trials=60))


def test_a_small_grid_deserves_no_more_trials_than_it_has_candidates() -> None:
    document = yaml.safe_load(tiny_study(trials=10))
    document["families"] = {
        "slerp": {**document["families"]["slerp"], "parameters": {"t": {"choices": [0.25, 0.5, 0.75]}}}
    }
    budget = budget_of(parse_study(yaml.safe_dump(document), place="t"))
    assert (budget.deserved, budget.candidates, budget.sampler) == (3, 3, "brute_force")
    assert list(budget.warnings()) == ["the space has 3 candidates, fewer than the 10 trials"]


@pytest.mark.parametrize("name", ["demo", "missing"])
def test_a_file_that_is_no_study_is_bad_input(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["space", str(tmp_path / f"{name}.yaml")])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
