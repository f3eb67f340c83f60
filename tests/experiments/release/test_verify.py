"""Verifying a finished study: nothing differs, or it is told what does."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.experiments.test_cli import run
from tests.search.studies import tiny_study


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Path:
    """Return a folder with a finished tiny study, its models, and the exported winner."""
    home = tmp_path_factory.mktemp("verify")
    shutil.copytree(tiny_models, home / "models")
    document = yaml.safe_load(tiny_study(trials=2)) | {"tracking": {"mlflow": None}}
    document["evaluate"]["verdict"] = "asked"
    (home / "study.yaml").write_text(yaml.safe_dump(document))
    code, _, err = run("search", home / "study.yaml", "--models-root", home / "models", "--out", home / "tiny")
    assert code == 0, err
    code, _, err = run("export", home / "tiny", "--model", home / "merged", "--models-root", home / "models")
    assert code == 0, err
    return home


@pytest.fixture
def study(original: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished study that a test may spoil."""
    return shutil.copytree(original, tmp_path / "copy")


def verify(study: Path, *more: object) -> tuple[int, str]:
    code, out, err = run("verify", study / "tiny", "--models-root", study / "models", *more)
    assert "Traceback" not in err
    return code, out


def test_nothing_differs_right_after_the_search(study: Path) -> None:
    code, out = verify(study, "--model", study / "merged")
    assert code == 0
    assert "DIFFERS" not in out
    assert out.count("same ") == 7
    assert "verified: nothing differs" in out


def test_a_parent_that_changed_is_named(study: Path) -> None:
    shutil.copy(study / "models/base/model.safetensors", study / "models/math/model.safetensors")
    code, out = verify(study)
    assert code == 1
    assert "DIFFERS  parents" in out
    assert "math: was " in out
    assert "DIFFERS  answers" in out


def test_a_recipe_that_changed_is_told(study: Path) -> None:
    recipe = yaml.safe_load((study / "tiny/best.yaml").read_text()) | {"dtype": "bfloat16"}
    (study / "tiny/best.yaml").write_text(yaml.safe_dump(recipe))
    code, out = verify(study)
    assert code == 1
    assert "DIFFERS  recipe" in out


def test_another_version_of_a_library_is_told(study: Path) -> None:
    versions = json.loads((study / "tiny/versions.json").read_text())
    (study / "tiny/versions.json").write_text(json.dumps(versions | {"torch": "1.0"}))
    code, out = verify(study)
    assert code == 1
    assert "torch: was 1.0, is " in out
    assert out.count("DIFFERS") == 1


def test_exported_weights_that_changed_are_told(study: Path) -> None:
    shutil.copy(study / "models/base/model.safetensors", study / "merged/model.safetensors")
    code, out = verify(study, "--model", study / "merged")
    assert code == 1
    assert "DIFFERS  weights" in out
    assert "DIFFERS  answers" not in out


def test_a_study_without_a_winner_cannot_be_verified(tmp_path: Path) -> None:
    code, _, err = run("verify", tmp_path)
    assert code == 2
    assert "has no winner yet" in err
