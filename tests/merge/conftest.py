"""Fixtures of the merge tests."""

from pathlib import Path

import pytest

from merge.merger import Merger
from tests.merge.parents import write_family


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """Return a folder with the tiny parents."""
    return write_family(tmp_path / "models")


@pytest.fixture
def merger(family: Path) -> Merger:
    """Return a merger of the tiny parents."""
    return Merger([family])
