"""`evals.evaluate`: what the command writes, from a folder or a model in memory, in one call."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import evals
from evals.errors import EvalError
from experiments.cli import app

VARYING = {"date", "total_evaluation_time_seconds", "mergesearch"}


def test_the_results_are_the_commands(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.evaluate.prompt_cache.user_cache", lambda: tmp_path / "cache")
    folder, file = str(tiny_models / "math"), tmp_path / "scores.json"
    found = evals.evaluate(folder, tasks=["mini_arc", "mini_mmlu"], limit=4, num_fewshot=1)
    arguments = ["evaluate", folder, "--tasks", "mini_arc,mini_mmlu", "--limit", "4", "--num-fewshot", "1"]
    assert CliRunner().invoke(app, [*arguments, "--output", str(file)]).exit_code == 0
    written: Any = json.loads(file.read_text())
    assert list(found.results) == list(written)
    told = json.loads(json.dumps(found.results, default=str))
    for key in set(written) - VARYING:
        assert told[key] == written[key], key
    assert set(found.answers["task"]) == {"mini_arc", "mini_mmlu"}
    acc = found.answers.query("task == 'mini_arc' and metric == 'acc'")["value"]
    assert len(acc) == 4
    assert found.results["results"]["mini_arc"]["acc,none"] == pytest.approx(acc.mean())


def test_a_model_in_memory_scores_like_its_folder_and_is_left_as_it_was(tiny_models: Path, tmp_path: Path) -> None:
    folder = tiny_models / "science"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.train()
    before, config = dict(model.named_modules()), model.config
    scores = [
        evals.evaluate(one, suite="mini", tasks="mini_arc", limit=3, tokenizer=tokenizer, cache=tmp_path)
        for one in (model, folder)
    ]
    assert scores[0].answers.equals(scores[1].answers)
    assert scores[0].results["suite"] == scores[1].results["suite"]
    assert dict(model.named_modules()) == before
    assert model.training
    assert model.config is config
    assert model.model.layers[0].self_attn.config is config
    assert list(tmp_path.glob("prompts-*.json"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "tasks: must name a task"),
        ({"tasks": "mini_arc", "engine": "fast"}, "engine: must be one of live, hf, vllm, got 'fast'"),
        ({"suite": "mini", "num_fewshot": 3}, "num_fewshot: must be None with a suite"),
        ({"tasks": "mini_ark"}, "did you mean"),
        ({"tasks": "mini_arc", "data": "nowhere"}, "must be a folder"),
        ({"tasks": "mini_arc", "limit": 1}, "model: must be a folder or hub id"),
        ({"tasks": "mini_arc", "limit": 1, "dtype": "int3"}, "dtype: must be one of"),
    ],
)
def test_what_is_wrong_is_one_line(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(EvalError, match=words) as caught:
        evals.evaluate(tmp_path / "none", **options)
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_in_memory_needs_its_tokenizer(model: Any) -> None:
    with pytest.raises(EvalError, match="tokenizer: must be given"):
        evals.evaluate(model, "mini_arc", limit=1)


def test_the_door_is_light() -> None:
    code = "import evals, sys; print(dir(evals).count('evaluate'), {'torch', 'lm_eval', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["1", "set()"]
