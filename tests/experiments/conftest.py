"""Fixtures of the command's tests."""

from pathlib import Path

import pytest

from tests.merge.parents import write_family


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder with the tiny parents below ``models``."""
    write_family(tmp_path / "models")
    return tmp_path
