"""Reproducing cards through the command line, on tiny models."""

import json
from pathlib import Path

import pytest
import yaml

from tests.experiments.test_cli import run

CARDS = Path(__file__).parent / "card" / "cards"
LINEAR: dict[str, object] = {
    "merge_method": "linear",
    "models": [{"model": f"org/{name}", "parameters": {"weight": 1.0}} for name in ("math", "science")],
}
MAPS = ("--map", "org/math=math", "--map", "org/science=science")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let prompts go into a cache of the test's own."""
    monkeypatch.setattr("experiments.evaluate.prompt_cache.user_cache", lambda: tmp_path / "cache")


def write_card(folder: Path, recipe: dict[str, object] | str, scores: dict[str, float]) -> Path:
    """Write a card with a model-index of embedded tasks and a recipe."""
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": task, "type": task, "args": {"num_few_shot": 0}},
            "metrics": [{"type": "acc_norm", "value": value}],
        }
        for task, value in scores.items()
    ]
    front = {"base_model": ["org/math"], "model-index": [{"name": "mine", "results": results}]}
    text = recipe if isinstance(recipe, str) else f"```yaml\n{yaml.safe_dump(recipe)}```"
    card = folder / "README.md"
    card.write_text(f"---\n{yaml.safe_dump(front)}---\n# mine\n\n{text}\n")
    return card


def test_what_the_card_says_rightly_is_reproduced_and_what_it_says_wrongly_is_not(
    tiny_models: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(LINEAR).replace("org/", ""))
    code, _, err = run(
        *("evaluate", tmp_path / "recipe.yaml", "--tasks", "mini_arc,mini_mmlu_continuation", "--num-fewshot", 0),
        *("--models-root", tiny_models, "--output", tmp_path / "right.json"),
    )
    assert code == 0, err
    truth = json.loads((tmp_path / "right.json").read_text())["results"]["mini_arc"]["acc_norm,none"]
    card = write_card(tmp_path, LINEAR, {"mini_arc": 100 * truth, "mini_mmlu_continuation": 99.0, "no_such_task": 50.0})
    code, out, err = run(
        *("reproduce", card, *MAPS, "--models-root", tiny_models, "--parents", "--output", tmp_path / "out.json")
    )
    assert code == 0, err
    assert "not measured: no_such_task: " in out
    assert "of 3 published scores, 1 within the interval, 1 lower than published, 1 not measured" in out
    first, second, _ = json.loads((tmp_path / "out.json").read_text())["scores"]
    assert first["measured"] == truth
    assert (first["verdict"], second["verdict"]) == ("reproduced", "lower")
    assert first["low"] < truth < first["high"]
    assert "| task | metric | rebuilt | org/math | org/science |" in out


def test_a_chain_gives_the_model_that_is_merged_by_hand(tiny_models: Path, tmp_path: Path) -> None:
    first = "## org/between\n```yaml\n" + yaml.safe_dump(LINEAR) + "```\n"
    last = {
        "merge_method": "slerp",
        "base_model": "org/between",
        "models": [{"model": "org/between"}, {"model": "org/base"}],
        "parameters": {"t": 0.5},
    }
    card = write_card(tmp_path, f"{first}\n## mine\n```yaml\n{yaml.safe_dump(last)}```", {"mini_arc": 30.0})
    code, out, err = run(
        *("reproduce", card, *MAPS, "--map", "org/base=base", "--models-root", tiny_models, "--limit", 4),
        *("--model", tmp_path / "rebuilt"),
    )
    assert (code, err) == (0, "")
    assert "first org/between: linear of math, science" in out
    stages = [LINEAR | {"name": "between"}, json.loads(json.dumps(last).replace("org/", ""))]
    (tmp_path / "stages.yaml").write_text(yaml.safe_dump_all(stages).replace("org/", ""))
    code, _, err = run("merge", tmp_path / "stages.yaml", tmp_path / "by-hand", "--models-root", tiny_models)
    assert (code, err) == (0, "")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("rebuilt", "by-hand")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (LINEAR | {"models": [{"model": "/etc", "parameters": {"weight": 1}}]}, "names '/etc', which is no hub id"),
        (LINEAR | {"models": [{"model": "../x", "parameters": {"weight": 1}}]}, "names '../x', which is no hub id"),
        ("just prose", "must hold a mergekit recipe"),
        ("```yaml\nmerge_method: sleerp\nmodels:\n- model: a/b\n```", "did you mean 'slerp'"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused_in_one_line(
    tiny_models: Path, tmp_path: Path, recipe: dict[str, object] | str, words: str
) -> None:
    card = write_card(tmp_path, recipe, {"mini_arc": 30.0})
    code, _, err = run("reproduce", card, "--models-root", tiny_models)
    assert code == 2
    assert words in err
    assert "Traceback" not in err


def test_a_card_cannot_choose_where_its_stages_are_written(tiny_models: Path, tmp_path: Path) -> None:
    evil = LINEAR | {"name": "../../escaped"}
    last = LINEAR | {"models": [{"model": "../../escaped", "parameters": {"weight": 1.0}}]}
    card = write_card(tmp_path, f"```yaml\n{yaml.safe_dump_all([evil, last])}```", {"mini_arc": 30.0})
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run("reproduce", card, *MAPS, "--models-root", tiny_models, "--limit", 2)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert not list(Path("/tmp").glob("escaped*"))  # noqa: S108 - where it would have gone


def test_a_card_without_scores_and_a_file_that_is_none_are_refused(tiny_models: Path, tmp_path: Path) -> None:
    code, _, err = run("reproduce", write_card(tmp_path, LINEAR, {}), *MAPS, "--models-root", tiny_models)
    assert code == 2
    assert "must publish scores" in err
    code, _, err = run("reproduce", tmp_path / "nothing.md")
    assert code == 2
    assert "must be a model card file or a hub id" in err


@pytest.mark.parametrize(
    ("name", "parents", "arguments"),
    [
        ("slerp-chain", ["phi-dpo", "phi-hermes", "phi-psy", "phi-aana"], ("--tasks", "arc_challenge,truthfulqa_mc2")),
        ("tutorial", ["mistral", "tuned-a", "tuned-d", "tuned-e"], ("--recipe", "3", "--tasks", "winogrande,gsm8k")),
        ("dare-against-slerp", ["mistral", "instruct", "west"], ("--tasks", "truthfulqa_mc2")),
        ("medical", ["llama-8b", "hermes-8b", "bio-8b"], ("--tasks", "hellaswag,mmlu_anatomy,mmlu_medical_genetics")),
    ],
)
def test_the_documents_run_on_tiny_models(
    tiny_models: Path, benchmark_data: Path, name: str, parents: list[str], arguments: tuple[str, ...]
) -> None:
    tiny = ("base", "math", "science", "math")
    maps = [part for at, parent in enumerate(parents) for part in ("--map", f"example/{parent}={tiny[at]}")]
    code, out, err = run(
        *("reproduce", CARDS / f"{name}.md", *maps, *arguments, "--models-root", tiny_models),
        *("--data", benchmark_data, "--limit", 2, "--num-fewshot", 0),
    )
    assert code == 0, err
    assert "verdict: of " in out
    assert "what is published belongs to the originals" in out


def test_a_leaderboard_without_its_data_says_what_is_missing(tiny_models: Path, tmp_path: Path) -> None:
    card = CARDS / "block-expansion.md"
    code, out, err = run(
        *("reproduce", card, "--map", "example/chat-7b=base", "--models-root", tiny_models, "--data", tmp_path)
    )
    assert code == 2
    assert out.count("not measured: ") == 6
    assert "none of its 6 published scores can be measured here" in err


def test_an_expanded_block_scores_as_its_parent(tiny_models: Path, tmp_path: Path) -> None:
    silent = [{"filter": "o_proj", "value": 0.0}, {"filter": "down_proj", "value": 0.0}, {"value": 1.0}]
    slices = [{"sources": [{"model": "org/math", "layer_range": [0, 32]}]}] + [
        {"sources": [{"model": "org/math", "layer_range": [31, 32], "parameters": {"scale": silent}}]} for _ in range(3)
    ]
    card = write_card(tmp_path, {"merge_method": "passthrough", "slices": slices}, {"mini_arc": 30.0})
    code, out, err = run(
        *("reproduce", card, *MAPS, "--models-root", tiny_models, "--limit", 20, "--parents"),
        *("--output", tmp_path / "out.json"),
    )
    assert (code, err) == (0, "")
    assert "note: layer ranges scaled from 32 to 2 layers" in out
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["scores"][0]["measured"] == found["parents"]["math"][0]["measured"]


def test_a_second_start_takes_prompts_from_the_cache(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = write_card(tmp_path, LINEAR, {"mini_arc": 30.0})
    asked = ("reproduce", card, *MAPS, "--models-root", tiny_models, "--limit", 8, "--output", tmp_path / "out.json")
    first = run(*asked)
    scores = (tmp_path / "out.json").read_text()
    monkeypatch.setattr("evals.evaluation.build_leaf", None)
    monkeypatch.setattr("evals.tasks.cached.Leaf", None)
    assert run(*asked)[0] == first[0] == 0
    assert (tmp_path / "out.json").read_text() == scores
    assert json.loads(scores)["scores"][0]["questions"] == 8
