"""The keys of what is kept on disk: they follow every source that prompts and tokens come from."""

from pathlib import Path

import pytest

from evals.cache import fingerprint


def test_the_key_of_our_code_covers_every_package_of_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def hashes(files: list[Path], root: Path) -> dict[str, str]:
        hashed.extend(path.relative_to(root).as_posix() for path in files)
        return {}

    monkeypatch.setattr(fingerprint, "hashes", hashes)
    fingerprint.code_key.__wrapped__()
    room = Path(fingerprint.__file__).parents[1]
    assert room.name == "evals"
    sources = {path.relative_to(room).as_posix() for path in room.rglob("*.py")}
    assert sources <= set(hashed)
    for file in ("evaluation.py", "tasks/loading.py", "prompts/building.py", "engines/live/engine.py"):
        assert file in hashed
    assert "mini/mini_arc.yaml" in hashed
    assert "mini/mini_arc/test.jsonl" in hashed


def test_a_file_that_changes_changes_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("1")
    before = fingerprint.hashes([file], tmp_path)
    file.write_text("2")
    assert list(before) == ["rows.jsonl"]
    assert fingerprint.hashes([file], tmp_path) != before
