"""What must hold of a study's folder at every instant: no file of a final name is a part, no finished trial is lost."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from safetensors import safe_open

from tests.faults.store_rows import read_rows


def check_files(home: Path) -> None:
    """Read every file that has its final name; a part of one cannot be read."""
    for path in sorted(home.rglob("*")):
        inside = path.relative_to(home)
        if path.is_dir() or any(part.startswith(".") or part.endswith(".partial") for part in inside.parts):
            continue
        if path.suffix in (".yaml", ".yml"):
            assert isinstance(yaml.safe_load(path.read_text()), dict), path
        elif path.parent.name == "prompts":
            told, _, body = path.read_bytes().partition(b"\n")
            assert hashlib.sha256(body).hexdigest().encode() == told, path
        elif path.suffix == ".json":
            assert isinstance(json.loads(path.read_text()), dict), path
        elif path.suffix == ".csv":
            assert path.read_bytes().endswith(b"\n"), path
            pd.read_csv(path)
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>"), path
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as stream:
                assert all(stream.get_tensor(name).isfinite().all() for name in stream.keys())  # noqa: SIM118
            names = {file.name for file in path.parent.iterdir()}
            assert {"config.json", "tokenizer.json", "README.md", "mergesearch_study.yaml"} <= names, names
            assert "against best parent" in (path.parent / "README.md").read_text()
        elif path.suffix == ".db" and path.stat().st_size:
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), path


def results(home: Path, study: str) -> dict[str, Any]:
    """Return all that a finished study leaves behind, but for times."""
    folder = home / "runs" / study
    table = pd.read_csv(folder / "trials.csv")
    names = ("answers.csv", "best.yaml", "verdict.json", "table.md", "study.yaml")
    merged = {p.name: p.read_bytes() for p in sorted((home / "merged").iterdir())} if (home / "merged").is_dir() else {}
    return {
        **{name: (folder / name).read_text() for name in names},
        "trials.csv": table[[name for name in table if "second" not in str(name)]].to_csv(),
        "trials": read_rows(folder / "study.db", study).finished,
        "mlflow": mirrored(home / "mlflow.db"),
        "merged": {name: hashlib.sha256(content).hexdigest() for name, content in merged.items()},
    }


def mirrored(database: Path) -> list[Any]:
    """Return the runs of an MLflow store: what each is of, its state and its metrics; times left out."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        runs = connection.execute("SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active'").fetchall()
        rows = connection.execute("SELECT run_uuid, key, value FROM latest_metrics").fetchall()
    metrics: dict[str, dict[str, float]] = {}
    for run, key, value in rows:
        if not key.startswith("seconds"):
            metrics.setdefault(run, {})[key] = value
    return sorted((name, status, sorted(metrics.get(run, {}).items())) for run, name, status in runs)
