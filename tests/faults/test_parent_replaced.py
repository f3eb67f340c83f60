"""A parent's file that is replaced, overwritten or cut off during a study: refused in one line before it is scored."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from merge.merger import Merger
from merge.recipe.schema import Recipe
from search.errors import StoreError
from search.loop.run import run_search
from search.results.observer import TrialRecord
from search.study.study import parse_study
from tests.experiments.test_cli import run
from tests.faults.forks import context
from tests.search.recorder import Recorder
from tests.search.studies import tiny_study
from tests.tiny import make_family

ENDS = "restore that model, or start a new study"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return models of this module's own, whose files are replaced."""
    return make_family(tmp_path_factory.mktemp("models"))


@contextmanager
def replaced(file: Path, content: bytes) -> Iterator[None]:
    """Put other content in a file's place, as a download does, and the old one back afterwards."""
    before = file.read_bytes()
    put(file, content)
    yield
    put(file, before)


def put(file: Path, content: bytes) -> None:
    beside = file.with_name("beside")
    beside.write_bytes(content)
    beside.replace(file)


def overwrite(file: Path) -> None:
    """Write other weights into the very file, and put its time back."""
    content, times = other_weights(file), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    with file.open("rb+") as handle:
        handle.write(content)
    os.utime(file, ns=times)


def other_weights(file: Path) -> bytes:
    """Return a file of weights with one bit of its last tensor changed."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    return bytes(content)


@dataclass
class Meddling(Recorder):
    """Changes a file when a number of trials is scored."""

    turn: int = 1
    meddle: Callable[[], None] = lambda: None

    def scored(self, record: TrialRecord) -> None:
        super().scored(record)
        if len(self.trials()) == self.turn and record.kind == "trial":
            self.meddle()


def test_a_file_replaced_while_the_study_runs_is_noticed_before_the_next_candidate(
    tmp_path: Path, models: Path
) -> None:
    weights, words = models / "science" / "model.safetensors", models / "science" / "tokenizer.json"
    study = parse_study(tiny_study(trials=8), place="tiny.yaml")
    changes: list[tuple[Path, Callable[[], None]]] = [
        (weights, lambda: put(weights, other_weights(weights))),
        (words, lambda: put(words, words.read_bytes() + b" ")),
        (weights, lambda: overwrite(weights)),
        (weights, lambda: os.truncate(weights, 8192)),
        (weights, weights.unlink),
    ]
    for done, (file, change) in enumerate(changes, start=1):
        before, heard = file.read_bytes(), Meddling(turn=done, meddle=change)
        with pytest.raises(StoreError, match=f"science.*must (not change|stay) while a study runs.*{ENDS}"):
            run_search(study, tmp_path / "study", observer=heard, models_roots=[models])
        assert len(heard.trials()) == done
        put(file, before)
    heard = Meddling(turn=len(changes) + 1, meddle=lambda: os.utime(weights, (1, 1)))
    run_search(study, tmp_path / "study", observer=heard, models_roots=[models])
    assert len(heard.trials()) == 8


def merge_a_cut_file(models: Path, log: Path) -> None:
    """Merge mapped parents, cut one off, and merge again; what is said goes to a file."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    merger = Merger([models], keep_bytes=0)
    live = AutoModelForCausalLM.from_pretrained(models / "base", dtype=torch.float32)
    for weight in (0.5, 0.3):
        pair = [{"model": name, "parameters": {"weight": weight, "density": 0.5}} for name in ("math", "science")]
        document = {"merge_method": "ties", "base_model": "base", "models": pair}
        merger.merge_live(Recipe.from_mapping(document, place="recipe.yaml"), live)
        os.truncate(models / "math" / "model.safetensors", 8192)


def test_a_file_that_is_cut_off_while_it_is_read_ends_the_process_in_one_line(tmp_path: Path) -> None:
    models = make_family(tmp_path / "models")
    process = context().Process(target=merge_a_cut_file, args=(models, tmp_path / "log"))
    process.start()
    process.join()
    (said,) = (line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("error: "))
    assert said.startswith(f"error: {models / 'math' / 'model.safetensors'}: was cut off while it was read; ")
    assert process.exitcode == 1


def test_the_command_line_refuses_the_next_start_and_the_export(tmp_path: Path, models: Path) -> None:
    document = yaml.safe_load(tiny_study(trials=2)) | {"tracking": {"mlflow": None}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(document))
    study, folder = tmp_path / "tiny.yaml", tmp_path / "tiny"
    search = ("search", study, "--models-root", models, "--out", folder)
    assert run(*search)[0] == 0
    with replaced(models / "math" / "model.safetensors", other_weights(models / "math" / "model.safetensors")):
        code, _, err = run(*search, "--trials", 3)
        assert (code, err.count("\n")) == (2, 1)
        assert "parents changed since the study began: math" in err
        assert ENDS in err
        code, _, err = run("export", folder, "--model", tmp_path / "merged", "--models-root", models)
        assert (code, err.count("\n")) == (2, 1)
        assert "math must be as it was when the study was run" in err
        assert not (tmp_path / "merged").exists()
    assert run(*search, "--trials", 3)[0] == 0
    assert run("export", folder, "--model", tmp_path / "merged", "--models-root", models)[0] == 0
