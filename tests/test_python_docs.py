"""docs/python.md: its blocks run as they stand, one after the other, on tiny models and the embedded questions."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_blocks_run_as_they_stand(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").symlink_to(tiny_models)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MERGESEARCH_MODELS", raising=False)
    blocks = list(BLOCK.finditer(PAGE))
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        line = PAGE[: block.start(1)].count("\n")
        code = "\n" * line + block.group(1)  # so that a traceback names the line of the page
        exec(compile(code, "docs/python.md", "exec"), names)  # noqa: S102


def test_there_is_no_other_code() -> None:
    assert PAGE.count("```") == 2 * len(BLOCK.findall(PAGE))
