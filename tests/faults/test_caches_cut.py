"""Files of caches that were cut off: noticed, told in one line at most, and made again."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from merge.native import compiler as native
from tests.experiments.test_cli import run
from tests.search.studies import tiny_study

Record = Callable[[str, object], None]
needs_compiler = pytest.mark.skipif(native.load() is None, reason="no C++ compiler: there are no loops to keep")


def lengths(size: int) -> tuple[int, ...]:
    """Return the lengths that a file is cut to."""
    return 0, 1, 70, size // 2, size - 1


def test_prompts_are_made_again(
    tmp_path: Path, tiny_models: Path, caplog: pytest.LogCaptureFixture, record_property: Record
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(yaml.safe_load(tiny_study()) | {"tracking": {"mlflow": None}}))
    words = ("search", tmp_path / "tiny.yaml", "--models-root", tiny_models, "--out")
    assert run(*words, tmp_path / "whole", "--trials", 3)[0] == 0
    assert run(*words, tmp_path / "cut", "--trials", 2)[0] == 0
    caplog.clear()
    files = sorted((tmp_path / "cut" / "prompts").glob("*.json"))
    for turn, file in enumerate(files):
        content = file.read_bytes()
        file.write_bytes(content[: lengths(len(content))[turn % 5]])
    code, _, err = run(*words, tmp_path / "cut", "--trials", 3)
    assert (code, err) == (0, "")
    read = {Path(line.partition(" is damaged")[0]) for line in caplog.messages if " is damaged" in line}
    assert {file.name.partition("-")[0] for file in read} == {"tasks", "questions", "prompts", "tokens"}
    for file in read:
        told, _, body = file.read_bytes().partition(b"\n")
        assert hashlib.sha256(body).hexdigest().encode() == told
    for name in ("best.yaml", "answers.csv"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()
    cut, whole = (json.loads((tmp_path / study / "verdict.json").read_text()) for study in ("cut", "whole"))
    assert cut == whole | {"earlier_looks": 1}  # it was judged after two trials too
    record_property("count", len(read))


@needs_compiler
def test_compiled_loops_are_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    monkeypatch.setenv("MERGESEARCH_CACHE", str(tmp_path))
    native.load.cache_clear()
    compiled: list[bytes] = []
    real = native._compile

    def compile_once(compiler: str, flags: tuple[str, ...], out: str) -> None:
        if not compiled:
            real(compiler, flags, out)
            compiled.append(Path(out).read_bytes())
        else:
            Path(out).write_bytes(compiled[0])
            compiled.append(compiled[0])

    monkeypatch.setattr(native, "_compile", compile_once)
    try:
        assert native.load() is not None
        (library,) = (tmp_path / "loops").glob("*.so")
        whole = library.read_bytes()
        for turn, length in enumerate(lengths(len(whole)), start=1):
            library.unlink()  # what is loaded stays mapped
            library.write_bytes(whole[:length])
            native.load.cache_clear()
            assert native.load() is not None
            assert len(compiled) == turn + 1
            assert library.read_bytes() == whole
        native.load.cache_clear()
        assert native.load() is not None
        assert len(compiled) == 6, "a whole library was compiled again"
    finally:
        native.load.cache_clear()
    record_property("count", 5)
