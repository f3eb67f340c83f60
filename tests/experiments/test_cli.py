"""The command line: what a new user does, and one clear line for everything that can be wrong."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from experiments.cli import app
from tests.search.studies import tiny_study


def run(*arguments: object) -> tuple[int, str, str]:
    """Run the command line; return exit code, standard output, standard error."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> tuple[Path, str]:
    """Return the folder of a tiny study run through the command line, and what it printed."""
    home = tmp_path_factory.mktemp("cli")
    document = yaml.safe_load(tiny_study())
    document["tracking"] = {"mlflow": f"sqlite:///{home / 'mlflow.db'}"}
    (home / "study.yaml").write_text(yaml.safe_dump(document))
    code, out, err = run("search", home / "study.yaml", "--models-root", tiny_models, "--out", home / "runs" / "tiny")
    assert (code, err) == (0, "")
    return home / "runs" / "tiny", out


def test_search_tells_baselines_trials_verdict_and_places(finished: tuple[Path, str]) -> None:
    folder, out = finished
    for words in (
        "baseline  base",
        "equal weights",
        "task arithmetic",
        "trial     trial ",
        "Verdict",
        "winner against",
        "(best parent)",
        "optimism",
        "best.yaml",
        "answers.csv",
        "mlflow ui",
        "seconds per trial",
    ):
        assert words in out
    for name in ("best.yaml", "answers.csv", "table.md", "trials.csv", "verdict.json", "study.yaml", "study.db"):
        assert (folder / name).is_file()
    assert not list(folder.glob("*.partial"))


def test_searching_again_reports_without_starting_over(finished: tuple[Path, str], tiny_models: Path) -> None:
    folder, first = finished
    code, out, _ = run("search", folder / "study.yaml", "--models-root", tiny_models, "--out", folder)
    assert code == 0
    assert "6 of them done by an earlier run" in out
    assert (
        out[out.index("winner:") :].split("seconds per")[0] == first[first.index("winner:") :].split("seconds per")[0]
    )


def test_the_mirror_has_a_run_per_record_under_the_study_run(finished: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    folder, _ = finished
    client = MlflowClient(tracking_uri=f"sqlite:///{folder.parent.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert len(runs) - len(children) == 1
    trials = [r for r in children if r.info.run_name.startswith("trial") and "objective" in r.data.metrics]
    assert len(trials) >= 6


def test_the_winner_is_exported_as_recipe_and_as_weights(
    finished: tuple[Path, str], tiny_models: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    folder, _ = finished
    code, out, err = run(
        "export",
        folder,
        "--recipe",
        tmp_path / "best.yaml",
        "--model",
        tmp_path / "merged",
        "--models-root",
        tiny_models,
    )
    assert (code, err) == (0, "")
    assert "weights:" in out
    assert (tmp_path / "best.yaml").read_text() == (folder / "best.yaml").read_text()
    AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert "How it was found" in (tmp_path / "merged" / "README.md").read_text()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system with room for 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64K", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system of 64 kB cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_at_export_leaves_nothing(finished: tuple[Path, str], tiny_models: Path, small_disk: Path) -> None:
    folder, _ = finished
    code, _, err = run("export", folder, "--model", small_disk / "merged", "--models-root", tiny_models)
    assert code == 1
    assert "No space left on device" in err
    assert len(err.splitlines()) == 1
    assert list(small_disk.iterdir()) == []


def study_with(**changes: Any) -> str:
    document = yaml.safe_load(tiny_study())
    document["tracking"] = {"mlflow": None}
    for path, value in changes.items():
        node = document
        *inside, last = path.split("__")
        for key in inside:
            node = node[int(key) if key.isdigit() else key]
        if value is None:
            del node[last]
        else:
            node[last] = value
    return yaml.safe_dump(document)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search__trails": 3}, "study.yaml: search.trails: unknown key; did you mean 'trials'?"),
        (
            {"families__ties__models__0__parameters__weight__low": 2.0},
            "study.yaml: families.ties.models[0].parameters.weight: low <= high must hold, got low=2, high=1",
        ),
        ({"families__ties__models__0__model": "nobody"}, "nobody"),
        ({"families__ties__models__0__model": "wide"}, "wide"),
        ({"evaluate__tasks__0__task": "mini_ark"}, "study.yaml: evaluate.tasks[0].task"),
        ({"evaluate__tasks__0__metric": "akk"}, "study.yaml: evaluate.tasks[0]"),
        ({"families__ties__base_model": None}, "families.ties.base_model"),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_is_written(
    changes: dict[str, Any], words: str, tiny_models: Path, tmp_path: Path, wide_model: Path
) -> None:
    (tmp_path / "study.yaml").write_text(study_with(**changes))
    code, _, err = run(
        "search",
        tmp_path / "study.yaml",
        "--models-root",
        tiny_models,
        "--models-root",
        wide_model,
        "--out",
        tmp_path / "out",
    )
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_parents_that_do_not_fit_are_told_with_every_difference(
    tiny_models: Path, wide_model: Path, tmp_path: Path
) -> None:
    recipe = {
        "merge_method": "linear",
        "models": [{"model": "math", "parameters": {"weight": 1}}, {"model": "wide", "parameters": {"weight": 1}}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code, _, err = run(
        "merge", tmp_path / "recipe.yaml", tmp_path / "out", "--models-root", tiny_models, "--models-root", wide_model
    )
    assert code == 2
    assert "down_proj" in err
    assert "gate_proj" in err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models root with ``wide``, whose feed-forward layers are wider than the tiny models'."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.tiny import make_tokenizer

    root = tmp_path_factory.mktemp("wide")
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(root / "wide")
    tokenizer.save_pretrained(root / "wide")
    return root


def test_the_store_of_another_study_is_refused(finished: tuple[Path, str], tmp_path: Path, tiny_models: Path) -> None:
    folder, _ = finished
    text = (folder / "study.yaml").read_text().replace("seed: 1", "seed: 2")
    (tmp_path / "study.yaml").write_text(text)
    before = (folder / "best.yaml").read_bytes()
    code, _, err = run("search", tmp_path / "study.yaml", "--models-root", tiny_models, "--out", folder)
    assert code == 2
    assert "search.seed: 1 -> 2" in err
    assert (folder / "best.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export", "nowhere", "--model", "x"), "must be the folder of a study"),
        (("evaluate", "base"), "--tasks a,b or --suite NAME"),
        (("evaluate", "base", "--tasks", "mini_arc", "--engine", "warp"), "--engine: must be one of"),
        (
            ("evaluate", "base", "--tasks", "mini_arc", "--device", "gpu"),
            "--device gpu: must be a device that torch can",
        ),
        (("verify", "nowhere", "--device", "meta"), "--device meta: must be a device that torch can use here"),
        (("search", "missing.yaml", "--quiet", "--json"), "--quiet: must stand alone, got --json too"),
        (("list", "things"), "list: must be one of"),
        (("search", "missing.yaml"), "missing.yaml: cannot be read"),
        (("merge", "missing.yaml", "out"), "missing.yaml"),
        (("search", "missing.yaml", "--models-root", "nowhere"), "nowhere"),
    ],
)
def test_wrong_arguments_are_one_clear_line(arguments: tuple[str, ...], words: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1


def test_list_names_what_recipes_and_studies_can_use() -> None:
    assert "dare_ties" in run("list", "methods")[1]
    assert "cmaes" in run("list", "samplers")[1]
    assert "mini" in run("list", "suites")[1]


def test_a_broken_mlflow_store_is_told_in_one_line_and_stops_nothing(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    document = yaml.safe_load(tiny_study(trials=1))
    document["tracking"] = {"mlflow": f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    code, out, err = run("search", tmp_path / "study.yaml", "--models-root", tiny_models, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert out.count("mlflow mirror is off") == 1
    assert (tmp_path / "out" / "best.yaml").is_file()


def test_the_mirror_is_made_again_from_the_store(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    database = folder.parent.parent / "mlflow.db"
    database.rename(tmp_path / "lost.db")
    command = [sys.executable, "-m", "experiments", "mlflow-sync", str(folder)]  # mlflow keeps connections open
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert "runs mirrored" in told.stdout
    with closing(sqlite3.connect(database)) as connection:
        (tags,) = connection.execute("select count(*) from tags where key = 'mlflow.parentRunId'").fetchone()
        versions = connection.execute("select source from model_versions").fetchall()
        aliases = connection.execute("select alias from registered_model_aliases").fetchall()
    assert tags >= 6
    assert [source.startswith("runs:/") for (source,) in versions] == [True]
    assert aliases == [("best",)]
