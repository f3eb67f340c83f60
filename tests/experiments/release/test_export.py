"""What a winner leaves with: recipe, weights, card, licence, a place on the hub."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from experiments.errors import InputError
from experiments.release.card import has_chat_template, snippet
from experiments.release.licences import merged_licence
from tests.conftest import ROOT
from tests.experiments.release.hub import Hub, fake_hub
from tests.experiments.test_cli import run
from tests.search.studies import tiny_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Path:
    """Return the folder of a finished tiny study."""
    home = tmp_path_factory.mktemp("export")
    document = yaml.safe_load(tiny_study(trials=2)) | {"tracking": {"mlflow": None}}
    document["evaluate"]["verdict"] = "asked"
    document["store"] = f"sqlite:///{home / 'elsewhere.db'}"
    (home / "study.yaml").write_text(yaml.safe_dump(document))
    code, _, err = run("search", home / "study.yaml", "--models-root", tiny_models, "--out", home / "tiny")
    assert code == 0, err
    return home / "tiny"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Return a hub on the loopback interface that huggingface_hub talks to."""
    with fake_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_TOKEN", running.token)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield running


def test_the_card_has_recipe_scores_and_a_model_index(finished: Path, tiny_models: Path, tmp_path: Path) -> None:
    code, out, err = run("export", finished, "--model", tmp_path / "merged", "--models-root", tiny_models)
    assert (code, err) == (0, "")
    card = ModelCard.load(tmp_path / "merged" / "README.md")
    assert card.data.tags == ["mergekit", "merge", "mergesearch"]
    assert card.data.eval_results is not None
    keys = {(result.dataset_type, result.metric_type) for result in card.data.eval_results}
    assert {("mini_arc", "acc_norm"), ("mini_gsm8k", "gold_bits_per_byte")} <= keys
    recipe = (finished / "best.yaml").read_text()
    assert f"```yaml\n{recipe}```" in card.text
    assert "| metric | this model |" in card.text
    assert "against best parent" in card.text
    assert "the licence of math is not told" in out


def test_what_belongs_to_this_machine_is_not_shared(finished: Path, tiny_models: Path, tmp_path: Path) -> None:
    run("export", finished, "--model", tmp_path / "merged", "--models-root", tiny_models)
    for name in ("README.md", "mergesearch_study.yaml", "mergekit_config.yml"):
        text = (tmp_path / "merged" / name).read_text()
        assert str(tmp_path.parent) not in text
        assert "elsewhere.db" not in text


def test_the_snippets_of_the_card_run(finished: Path, tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    run("export", finished, "--model", folder, "--models-root", tiny_models)
    plain = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert not has_chat_template(folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )
    assert has_chat_template(folder)
    chat = snippet("merged", chat=True)
    assert "apply_chat_template" in chat
    for code in (plain, chat):
        told = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stderr
        assert told.stdout.strip()


def test_our_own_card_is_reproduced(finished: Path, tiny_models: Path, tmp_path: Path) -> None:
    run("export", finished, "--model", tmp_path / "merged", "--models-root", tiny_models)
    code, out, err = run("reproduce", tmp_path / "merged" / "README.md", "--models-root", tiny_models, "--limit", 4)
    assert code == 0, err
    assert "| mini_gsm8k | gold_bits_per_byte | 0 |" in out
    assert "not measured" not in out


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own call of its client
def test_a_push_brings_weights_card_and_recipe_to_the_hub(finished: Path, tiny_models: Path, hub: Hub) -> None:
    before = sorted(finished.iterdir())
    code, out, err = run("export", finished, "--push", "me/tiny-merge", "--private", "--models-root", tiny_models)
    assert code == 0, err
    files = hub.files["me/tiny-merge"]
    assert {"README.md", "model.safetensors", "config.json", "tokenizer.json", "mergekit_config.yml"} <= set(files)
    assert 'name = "me/tiny-merge"' in files["README.md"].decode()
    assert hub.private["me/tiny-merge"]
    assert "pushed: " in out
    assert hub.token not in out + err + "".join(content.decode("utf-8", "replace") for content in files.values())
    assert sorted(finished.iterdir()) == before


def test_a_push_that_the_hub_refuses_tells_no_token(
    finished: Path, tiny_models: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another_secret")
    code, out, err = run(
        "export", finished, "--push", "me/x", "--model", tmp_path / "merged", "--models-root", tiny_models
    )
    assert code == 1
    assert "error: --push me/x: the hub refused" in err
    assert len(err.splitlines()) == 1
    assert "hf_another_secret" not in out + err
    assert (tmp_path / "merged" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["nobody", "a/b/c", "../x", "me/..", "https://x/y"])
def test_a_push_to_no_repository_writes_nothing(finished: Path, hub: Hub, tmp_path: Path, name: str) -> None:
    code, _, err = run("export", finished, "--push", name, "--model", tmp_path / "merged")
    assert code == 2
    assert "--push: must be USER/NAME" in err
    assert not (tmp_path / "merged").exists()
    assert hub.requests == []


def test_a_card_of_the_hub_is_read(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub.files["org/card"] = {"README.md": (ROOT / "tests/experiments/reproduce/card/cards/medical.md").read_bytes()}
    code, out, err = run("reproduce", "org/card", "--dry-run")
    assert (code, err) == (0, "")
    assert "card: merge-medical-8b (org/card), 12 published scores" in out
    code, _, err = run("reproduce", "org/nothing", "--dry-run")
    assert code == 2
    assert "the hub gives no card" in err


@pytest.mark.parametrize(
    ("parents", "result"),
    [
        ({"a": "apache-2.0", "b": "mit"}, "apache-2.0"),
        ({"a": "mit", "b": "mit"}, "mit"),
        ({"a": "llama3", "b": "apache-2.0"}, "llama3"),
        ({"a": "cc-by-nc-4.0", "b": "llama3"}, "other"),
        ({"a": "mit", "b": None}, None),
    ],
)
def test_the_licence_follows_from_the_parents(parents: dict[str, str | None], result: str | None) -> None:
    assert merged_licence(parents).name == result


def test_a_licence_that_a_parent_forbids_is_refused() -> None:
    with pytest.raises(InputError, match=r"--license: must be cc-by-nc-4.0, as the parents', got 'mit'"):
        merged_licence({"a": "cc-by-nc-4.0", "b": "mit"}, "mit")
    assert merged_licence({"a": "apache-2.0"}, "MIT").name == "mit"
