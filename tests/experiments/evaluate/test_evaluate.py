"""The evaluate command: a leaderboard's table, lm-eval's documents, and one clear line for what is missing."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from experiments.cli import app

RECIPE = {
    "merge_method": "linear",
    "models": [{"model": "base", "parameters": {"weight": 0.5}}, {"model": "math", "parameters": {"weight": 0.5}}],
    "dtype": "float32",
}


def run(*arguments: object) -> tuple[int, str, str]:
    """Run ``evaluate``; return exit code, standard output, standard error."""
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "300"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def rows(out: str) -> dict[str, list[str]]:
    """Return the table's cells by the first of each row."""
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in lines}


@pytest.fixture
def offline_models(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the option that names the tiny models; prompts go into a cache of the test's own."""
    monkeypatch.setattr("experiments.evaluate.prompt_cache.user_cache", lambda: tmp_path / "cache")
    return ["--models-root", tiny_models]


def test_every_metric_has_a_row_and_every_model_a_column(offline_models: list[object], tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(RECIPE))
    code, out, err = run(
        "base", "math", tmp_path / "mix.yaml", "--tasks", "mini_arc", "--limit", 8, *offline_models,
        "--output", tmp_path / "scores.json", "--log-samples",
    )  # fmt: skip
    assert (code, err) == (0, "")
    table = rows(out)
    assert table["metric"] == ["base", "math", "mix"]
    assert {"mini_arc/acc ↑", "mini_arc/acc_norm ↑", "mini_arc/gold_prob ↑"} <= set(table)
    assert all("±" in cell for cell in table["mini_arc/acc ↑"])
    assert sum("**" in cell for cell in table["mini_arc/gold_prob ↑"]) >= 1
    found = {path.name for path in tmp_path.glob("scores_*.json")}
    assert found == {"scores_base.json", "scores_math.json", "scores_mix.json"}
    document: Any = json.loads((tmp_path / "scores_mix.json").read_text())
    assert document["n-samples"]["mini_arc"]["effective"] == 8
    assert document["mergesearch"]["recipe"]["merge_method"] == "linear"
    assert document["config"]["limit"] == 8
    shown = f"{document['results']['mini_arc']['acc_norm,none']:.4f}"
    assert shown in table["mini_arc/acc_norm ↑"][2]
    samples = (tmp_path / "samples_mini_arc_scores_mix.jsonl").read_text().splitlines()
    assert len(samples) == 8
    assert "mini_arc" in document["task_hashes"]


def test_columns_equal_those_of_models_scored_alone(offline_models: list[object], tmp_path: Path) -> None:
    """The live model, prompts and engine are kept from one model to the next; answers are not."""
    together = rows(run("base", "math", "--tasks", "mini_arc", "--limit", 8, *offline_models)[1])
    alone = rows(run("math", "--tasks", "mini_arc", "--limit", 8, *offline_models)[1])
    assert {key: cells[1].replace("**", "") for key, cells in together.items() if key.startswith("mini")} == {
        key: cells[0] for key, cells in alone.items() if key.startswith("mini")
    }


def test_prompts_are_made_once_for_all_models_and_found_by_the_next_evaluation(
    offline_models: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evals.prompts.building import build_leaf
    from evals.tasks.loading import load_tasks

    made = {"prompts": 0, "tasks": 0}

    def asking(*arguments: Any) -> Any:
        made["prompts"] += 1
        return build_leaf(*arguments)

    def loading(*arguments: Any, **options: Any) -> Any:
        made["tasks"] += 1
        return load_tasks(*arguments, **options)

    monkeypatch.setattr("evals.evaluation.build_leaf", asking)
    monkeypatch.setattr("evals.tasks.cached.load_tasks", loading)
    asked = ("base", "math", "--tasks", "mini_arc", "--limit", 8, *offline_models)
    first = run(*asked)
    assert first[0] == 0
    assert made == {"prompts": 1, "tasks": 1}
    assert rows(run(*asked)[1]) == rows(first[1])
    assert made == {"prompts": 1, "tasks": 2}, "the second time tasks are opened for their metrics, after the model"
    for file in (tmp_path / "cache" / "prompts").iterdir():
        file.write_bytes(file.read_bytes()[:-9])
    assert rows(run(*asked)[1]) == rows(first[1])
    assert made == {"prompts": 2, "tasks": 3}
    run(*asked, "--system_instruction", "be short")
    assert made["prompts"] == 3, "other prompts"


def test_a_suite_is_shown_in_percent_with_its_average(
    offline_models: list[object], tmp_path: Path, benchmark_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLTK_DATA", str(benchmark_data / "nltk_data"))
    monkeypatch.setattr("nltk.data.path", [str(benchmark_data / "nltk_data")])
    code, out, err = run("base", "--suite", "mini", "--limit", 2, *offline_models, "--output", tmp_path / "out")
    assert (code, err) == (0, "")
    table = rows(out)
    assert next(iter(table)) == "mini, %"
    assert len(table) == 7
    assert "**Average**" in table
    (file,) = (tmp_path / "out" / "base").glob("results_*.json")
    document: Any = json.loads(file.read_text())
    assert f"{100 * document['suite']['scores']['average']['value']:.2f}" in table["**Average**"][0]
    assert "mini_ifeval" in document["results"]


def test_a_missing_sentence_model_is_one_line(
    offline_models: list[object], tmp_path: Path, benchmark_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nltk.data.path", [])
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    shutil.copytree(benchmark_data / "ifeval", tmp_path / "data" / "ifeval")  # without the nltk_data beside it
    code, _, err = run("base", "--tasks", "ifeval", "--limit", 1, "--data", tmp_path / "data", *offline_models)
    assert code == 2
    assert len(err.splitlines()) == 1
    for words in ("'ifeval'", "punkt_tab", "python -m nltk.downloader punkt_tab", "NLTK_DATA", "leave the task out"):
        assert words in err


def test_a_part_of_a_suite_is_not_called_its_average(offline_models: list[object]) -> None:
    code, out, _ = run("base", "--suite", "mini", "--tasks", "mini_arc", "--limit", 2, *offline_models)
    assert code == 0
    assert "**Mean of 1 of 4 tasks**" in rows(out)
    assert "Average" not in out


def test_everything_that_is_missing_is_said_in_one_line(offline_models: list[object], benchmark_data: Path) -> None:
    code, _, err = run("base", "--suite", "nous", "--data", benchmark_data, *offline_models)
    assert code == 2
    assert len(err.splitlines()) == 1
    for words in ("suite nous", "agieval_nous", "piqa", "openbookqa", "bigbench_snarks", "--skip-missing", "--tasks"):
        assert words in err
    assert "arc_challenge" not in err
    assert "hellaswag" not in err


def test_what_is_missing_can_be_left_out(offline_models: list[object], benchmark_data: Path) -> None:
    code, _, err = run(
        "base", "--suite", "nous", "--tasks", "piqa,boolq", "--data", benchmark_data, "--skip-missing", *offline_models
    )
    assert code == 2
    assert "got none for all 2 tasks: boolq, piqa" in err
    code, out, err = run(
        "base", "--suite", "nous", "--tasks", "arc_easy,piqa", "--data", benchmark_data, "--skip-missing",
        "--limit", 1, *offline_models,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "left out, no data: piqa" in out
    assert "Mean of 1 of 23 tasks" in out


def test_a_task_of_ones_own_is_found_below_include_path(offline_models: list[object], tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    asked = [{"question": f"How many legs has animal {i}?", "answers": ["four", "nine"]} for i in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    task = {
        "task": "legs", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}}",
        "doc_to_choice": "{{answers}}", "doc_to_target": 0, "metric_list": [{"metric": "acc"}],
    }  # fmt: skip
    (folder / "legs.yaml").write_text(yaml.safe_dump(task))
    code, out, err = run("base", "--tasks", "legs,mini_arc", "--limit", 3, "--include-path", folder, *offline_models)
    assert (code, err) == (0, "")
    assert {"legs/acc ↑", "mini_arc/acc ↑"} <= set(rows(out))
    code, _, err = run("base", "--tasks", "legs", *offline_models)
    assert (code, err.count("\n")) == (2, 1)
    assert "legs" in err


def test_local_data_and_models_need_no_network(
    offline_models: list[object], benchmark_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    code, out, err = run(
        "base", "--tasks", "arc_easy,gsm8k,mmlu_anatomy,truthfulqa_mc2", "--num-fewshot", 1, "--limit", 1,
        "--data", benchmark_data, *offline_models,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "gsm8k/exact_match/strict-match ↑" in rows(out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--tasks a,b or --suite NAME"),
        (["--suite", "cor"], "did you mean 'core'"),
        (["--suite", "mini", "--num-fewshot", 2], "a suite has its own shots"),
        (["--suite", "mini", "--tasks", "piqa"], "tasks must be among mini_arc"),
        (["--tasks", "mini_arc", "--engine", "fast"], "--engine: must be one of live, hf, vllm"),
        (["--tasks", "mini_arc", "--dtype", "int8"], "--dtype: must be one of"),
        (["--tasks", "mini_arc", "--apply_chat_template"], "must have a chat template, got none; leave it out"),
        (["--tasks", "mini_arc", "--log-samples"], "--log-samples: must be given a place"),
        (["--tasks", "mini_arc", "--engine", "vllm"], "pip install 'mergesearch[vllm]'"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[object], words: str, offline_models: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evals.engines.vllm.find_spec", lambda _: None)
    code, _, err = run("base", *arguments, *offline_models)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
