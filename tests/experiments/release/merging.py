"""What the tests of `mergesearch merge` share: the tiny parents, the command, and what a refusal must look like."""

from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from experiments.cli import app
from tests.conftest import golden_cases

CASES = golden_cases()
LINEAR: dict[str, Any] = {
    "merge_method": "linear",
    "models": [{"model": name, "parameters": {"weight": 0.5}} for name in ("a", "b")],
}
TIES: dict[str, Any] = {
    "merge_method": "ties",
    "base_model": "base",
    "models": [{"model": name, "parameters": {"weight": 0.5, "density": 0.5}} for name in ("a", "b")],
}


def run(*arguments: object) -> tuple[int, str, str]:
    """Run ``mergesearch merge``; return exit code, standard output, standard error."""
    result = CliRunner().invoke(app, ["merge", *map(str, arguments)], env={"COLUMNS": "200", "HF_HUB_OFFLINE": "1"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def recipe(home: Path, *documents: object) -> Path:
    file = home / "recipe.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return file


def merge(home: Path, document: object, *flags: object) -> tuple[int, str, str]:
    return run(recipe(home, document), home / "out", "--models-root", home / "models", *flags)


def refused(home: Path, document: object, *flags: object, lines: int = 1) -> str:
    """Return what a refusal says, after checking its form and that nothing was written."""
    before = sorted(path.name for path in home.iterdir())
    code, out, err = merge(home, document, *flags)
    assert (code, out) == (2, ""), err
    assert len(err.splitlines()) == lines, err
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert sorted(path.name for path in home.iterdir() if path.name != "recipe.yaml") == [
        name for name in before if name != "recipe.yaml"
    ]
    return err
