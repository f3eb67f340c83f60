"""Dependencies: pinned by the lock that the Makefile installs, and without a known hole where that can be asked."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = ROOT / "requirements.lock"


def pins() -> dict[str, str]:
    """Return the version of every package of the lock."""
    lines = [line for line in LOCK.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    found = dict(line.split("==") for line in lines)
    assert len(found) == len(lines), "a package stands twice"
    return found


def test_every_package_has_one_exact_version() -> None:
    for name, version in pins().items():
        assert re.fullmatch(r"[A-Za-z0-9][\w.-]*", name)
        assert re.fullmatch(r"\d+(\.\w+)*", version)


def test_the_lock_pins_everything_that_the_project_asks_for() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["dev"] + project["optional-dependencies"]["demo"]
    names = {re.match(r"[\w.-]+", one)[0].lower().replace("_", "-") for one in asked}  # type: ignore[index]
    assert names <= {name.lower().replace("_", "-") for name in pins()}


def test_the_makefile_installs_the_lock_and_nothing_else() -> None:
    installs = [line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if "pip install" in line]
    into_ours = [line for line in installs if "$(BIN)/python" in line]
    assert len(into_ours) == 2
    assert "--requirement requirements.lock" in into_ours[0]
    assert "--no-deps" in into_ours[1]


@pytest.mark.slow
def test_no_pinned_version_has_a_known_hole() -> None:
    """Asks pip-audit, which asks the index; `MERGESEARCH_AUDIT=1` turns it on, since it needs a network."""
    if os.environ.get("MERGESEARCH_AUDIT") != "1":
        pytest.skip("the audit asks the package index: set MERGESEARCH_AUDIT=1")
    if importlib.util.find_spec("pip_audit") is None:
        pytest.skip("pip-audit is not installed: pip install pip-audit")
    command = [sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--no-deps", "--disable-pip", "-f", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if not done.stdout.strip():
        pytest.skip(f"the index cannot be asked: {(done.stderr.strip().splitlines() or ['no answer'])[-1][:200]}")
    packages = json.loads(done.stdout)["dependencies"]
    if all("skip_reason" in package for package in packages):
        pytest.skip(f"the index knows nothing of holes: {packages[0]['skip_reason'][:200]}")
    found = {p["name"]: [v["id"] for v in p.get("vulns", [])] for p in packages}
    assert {name: holes for name, holes in found.items() if holes} == {}
