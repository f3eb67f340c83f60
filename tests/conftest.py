"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports torch. Processes of several workers compute on fewer threads than one alone, and scores are
# the same bits for one number of threads only; besides, threads that wait for each other are slow on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")


SHARED = Path(os.environ.get("MERGESEARCH_SHARED", ROOT.parent / "shared"))
"""Folder of reference material; every test finds it by this name, so that moving a test cannot hide it."""


def golden_cases() -> list[Path]:
    """Return the folders of the reference merges, none where there is no reference material."""
    return sorted(path.parent for path in (SHARED / "golden" / "cases").glob("*/recipe.yaml"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of reference material beside the checkout, or skip the test when it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"reference material is not here: {SHARED} (set MERGESEARCH_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Return the folder of reference merges."""
    return shared / "golden"


@pytest.fixture(scope="session")
def benchmark_data(shared: Path) -> Path:
    """Return the folder of real benchmark questions, laid out as ``--data`` expects."""
    return shared / "data"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models root with ``base``, ``math`` and ``science``: tiny random llamas."""
    from tests.tiny import make_family

    return make_family(tmp_path_factory.mktemp("models"))
