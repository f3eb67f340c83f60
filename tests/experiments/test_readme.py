"""The README: it stays short, every block runs on tiny models, every hole fills, every command's example parses."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.main import get_command

from experiments.cli import COMMANDS as ENTRIES
from experiments.cli import Entry, app
from search.study.study import parse_study
from tests.conftest import ROOT
from tests.experiments.test_cli import run
from tests.search.studies import tiny_study

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(mergesearch [^`]+)`")
TABLED = re.compile(r"^\| `(mergesearch [^`]+)`", re.MULTILINE)
SHOWN = re.compile(r"^\$ (.*)$", re.MULTILINE)
PRINTED = re.compile(r"bin/(mergesearch .*)$", re.MULTILINE)
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
MOST_LINES = 180
ELSEWHERE = {"demo", "worker"}
"""Commands that the README does not list, or that no test runs: the demo takes minutes."""

SMALLER = {
    "num_fewshot: 25": "num_fewshot: 1",
    "evaluate:": "search: {trials: 2}\nevaluate:\n  data: DATA\n  questions: {search: 4, selection: 4, test: 4}",
}
"""What a test cannot wait for in the README's study, and what stands in for it."""

PLACES = {
    "STUDY.yaml": "study.yaml",
    "DIR": "data",
    "runs/NAME": "runs/my-merge",
    "RECIPE.yaml": "runs/my-merge/best.yaml",
    "OUT": "built",
    "MODEL...": "merged",
    "CARD.md": "exported/README.md",
}
"""Placeholders of the README, and the files that stand in for them."""

OTHERWISE = {"duel": {"STUDY.yaml": "duel.yaml"}, "export": {"DIR": "exported"}}
"""The same for single commands."""

FEWER = {
    "evaluate": ["--tasks", "arc_challenge", "--data", "data", "--limit", "2"],
    "reproduce": ["--data", "data", "--limit", "2"],
}
"""Flags that keep a command off the network and short."""


def blocks(language: str) -> list[str]:
    return [body for name, body in BLOCK.findall(README) if name == language]


def typed(block: str) -> Iterator[list[str]]:
    """Go through the commands of a block of shell, split as a shell does."""
    for line in block.splitlines():
        for part in line.split("&&"):
            if words := shlex.split(part, comments=True):
                yield words


def filled(words: list[str]) -> list[str]:
    """Return a command's words with files in place of placeholders."""
    places = PLACES | OTHERWISE.get(words[1], {})
    return [places.get(word, word) for word in words[1:]] + FEWER.get(words[1], [])


def parsed(words: list[str]) -> None:
    """Fail unless the command line knows the command and takes its options."""
    assert words[1] in COMMANDS, words
    COMMANDS[words[1]].make_context(words[1], list(words[2:]))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Path:
    """Return a folder with the README's study, and tiny models and questions under the names that it uses."""
    folder = tmp_path_factory.mktemp("readme")
    (study,) = blocks("yaml")
    for words, fewer in SMALLER.items():
        assert words in study, f"the README no longer says {words!r}: change SMALLER"
        study = study.replace(words, fewer)
    (folder / "study.yaml").write_text(study.replace("DATA", str(folder / "data")))
    (folder / "duel.yaml").write_text(two_recipes())
    for ours, theirs in (("base", "base"), ("math", "fine-tune-a")):
        shutil.copytree(tiny_models / ours, folder / "models" / "org" / theirs)
    write_lora(folder / "models" / "org" / "lora-b")
    write_questions(folder / "data")
    return folder


def two_recipes() -> str:
    document = yaml.safe_load(tiny_study()) | {"study": "meeting", "tracking": {"mlflow": None}}
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in ("org/base", "org/fine-tune-a")]
    ends = [{"model": model["model"]} for model in models]
    slerp = {"merge_method": "slerp", "base_model": "org/base", "models": ends, "parameters": {"t": 0.3}}
    document["families"] = {"linear": {"merge_method": "linear", "models": models}, "slerp": slerp}
    return yaml.safe_dump(document)


def write_lora(folder: Path) -> None:
    """Write an adapter of one projection for the tiny llama."""
    folder.mkdir(parents=True)
    at, generator = "base_model.model.model.layers.1.self_attn.q_proj", torch.Generator().manual_seed(3)
    pair = {
        f"{at}.lora_A.weight": torch.randn(2, 32, generator=generator),
        f"{at}.lora_B.weight": torch.randn(32, 2, generator=generator),
    }
    save_file(pair, folder / "adapter_model.safetensors")
    facts = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(facts))


def write_questions(data: Path) -> None:
    """Write rows of two tasks in the hub's schema."""
    for split, count in (("train", 40), ("validation", 12), ("test", 6)):
        arc = [
            {
                "id": f"{split}-{n}",
                "question": f"{split}: what is {n} plus {n}?",
                "choices": {"text": [str(2 * n), str(n), str(3 * n + 1)], "label": ["A", "B", "C"]},
                "answerKey": "A",
            }
            for n in range(1, count)
        ]
        gsm = [{"question": f"{split}: {n} and {n}?", "answer": f"{n}+{n}={2 * n}\n#### {2 * n}"} for n in range(count)]
        for task, rows in (("arc_challenge", arc), ("gsm8k", gsm)):
            (data / task).mkdir(parents=True, exist_ok=True)
            (data / task / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_every_block_says_what_it_is() -> None:
    found = [name for name, _ in BLOCK.findall(README)]
    assert set(found) == {"sh", "yaml", "text"}
    assert README.count("```") == 2 * len(found)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


def test_blocks_and_tables_run_as_they_stand(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("MERGESEARCH_MODELS", str(home / "models"))
    tabled = [shlex.split(span) for span in TABLED.findall(README)]
    assert {words[1] for words in tabled} >= set(COMMANDS) - ELSEWHERE
    tabled = [words for words in tabled if words[1] not in ELSEWHERE]
    tabled.sort(key=lambda words: words[1] != "export")  # reproduce reads the card that export writes
    shown = [words for block in blocks("sh") for words in typed(block) if words[0] == "mergesearch"]
    for words in (*shown, *tabled):
        code, out, err = run(*filled(words))
        assert code == 0, (words, err)
        assert out.strip(), words
    assert {"runs", "exported", "merged", "built", "mlflow.db"} <= {path.name for path in home.iterdir()}
    assert (home / "runs" / "my-merge" / "report.html").is_file()


def test_what_is_no_command_of_ours_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = [words for block in blocks("text") for words in typed("\n".join(SHOWN.findall(block)))]
    for words in (*(words for block in blocks("sh") for words in typed(block)), *shown):
        assert words[0] in {"mergesearch", "make", "git", "cd", "pip"}, words
        if words[0] == "make":
            assert set(words[1:]) <= targets, words


def test_commands_in_the_text_and_in_transcripts_are_taken() -> None:
    named = [shlex.split(words) for words in SPAN.findall(README)]
    printed = [shlex.split(words) for block in blocks("text") for words in PRINTED.findall(block)]
    assert len(named) > 12
    for words in (*named, *printed):
        parsed(words)


def test_every_hole_and_every_setting_in_the_text_is_taken() -> None:
    holes = re.findall(r"^\| `([^`]*[{][^`]*)`", README.split("| hole | searched |")[1].split("\n\n")[0], re.MULTILINE)
    assert len(holes) == 5
    for hole in holes:
        study = parse_study(yaml.safe_dump(study_with(yaml.safe_load(hole))), place=hole)
        assert any(family.dimensions for family in study.space.families.values()), hole
    settings = re.findall(r"`((?:search|constraints): [{][^`]*[}])`", README)
    assert len(settings) >= 3
    for setting in settings:
        document = yaml.safe_load(blocks("yaml")[0]) | yaml.safe_load(setting)
        asked = [name.split("/")[0] for name in document.get("constraints", {})]
        document["evaluate"]["tasks"] += [{"task": name, "weight": 0} for name in asked]
        parse_study(yaml.safe_dump(document), place=setting)


def study_with(hole: dict[str, Any]) -> dict[str, Any]:
    """Return the README's study with a hole in the place that it is for."""
    document: dict[str, Any] = yaml.safe_load(blocks("yaml")[0])
    family = document["families"]["ties"]
    plain = {"weight": 0.5, "density": 0.5}
    family["models"] = [{"model": model["model"], "parameters": dict(plain)} for model in family["models"]]
    if "layer_range" in hole:
        slices = [{"sources": [{"model": "org/fine-tune-a", **hole}]}]
        document["families"] = {"stacked": {"merge_method": "passthrough", "slices": slices}}
    elif "choices" in hole:
        family["merge_method"] = hole
    else:
        family["models"][0]["parameters"]["weight"] = hole
    return document


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_commands_help_ends_with_examples_that_are_taken(entry: Entry) -> None:
    code, out, _ = run(entry.name, "--help")
    assert code == 0
    ending = " ".join(out[out.rindex("Example") :].split())
    for example in entry.examples:
        assert f"mergesearch {example}" in ending
        words = shlex.split(f"mergesearch {example}")
        assert words[1] == entry.name
        parsed(words[: words.index(">")] if ">" in words else words)
