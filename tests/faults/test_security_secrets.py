"""Tokens and passwords are in no message and in no file; what opens a port opens it on the loopback alone."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from experiments.cli import app
from search.study.addresses import without_password
from search.study.study import parse_study
from tests.experiments.test_cli import run
from tests.faults.watch import invoked
from tests.search.studies import tiny_study

SECRETS = {
    "HF_TOKEN": "hf_s3cretOfTheHub",
    "HUGGING_FACE_HUB_TOKEN": "hf_s3cretOfOldTimes",
    "MLFLOW_TRACKING_USERNAME": "s3cretUserOfMlflow",
    "MLFLOW_TRACKING_PASSWORD": "s3cretPasswordOfMlflow",
    "MLFLOW_TRACKING_TOKEN": "s3cretTokenOfMlflow",
    "PGPASSWORD": "s3cretOfPostgres",
    "AWS_SECRET_ACCESS_KEY": "s3cretOfAmazon",
    "WANDB_API_KEY": "s3cretOfWandb",
}


def holders(folder: Path) -> list[str]:
    """Return the files below a folder in which the bytes of a secret stand."""
    return [
        f"{path.name}: {name}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for name, secret in SECRETS.items()
        if secret.encode() in path.read_bytes()
    ]


def test_no_secret_is_printed_or_kept(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.chdir(tmp_path)
    document = yaml.safe_load(tiny_study(trials=2, finalists=1))
    document["tracking"] = {"mlflow": "sqlite:///mlflow.db"}
    document["evaluate"]["questions"] = {"search": 4, "selection": 2, "test": 4}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    models, out = ["--models-root", tiny_models], tmp_path / "runs" / "tiny"
    said = []
    for command in (
        ("search", "study.yaml", *models, "--out", out),
        ("report", out),
        ("export", out, "--model", tmp_path / "merged", *models),
    ):
        code, printed, errors = run(*command)
        assert code == 0, errors
        said += [printed, errors]
    (tmp_path / "said").write_text("".join(said))
    assert (out / "report.html").is_file()
    assert (tmp_path / "mlflow.db").is_file()
    assert holders(tmp_path) == []
    (tmp_path / "leak").write_text(os.environ["HF_TOKEN"])
    assert holders(tmp_path) == ["leak: HF_TOKEN"]


ADDRESSES = (
    "postgresql://me:s3cret@host/db",
    "postgresql+psycopg://me:s3cret@host:5432/db",
    "mysql://me:s3cret@host/db",
    "postgresql://host/db?user=me&password=s3cret",
    "https://me:s3cret@mlflow.example/",
    "https://mlflow.example/?token=s3cret",
    "postgresql://[s3cret",
)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("key", ["store", "tracking"])
def test_a_password_in_an_address_is_refused_unseen(key: str, address: str, tmp_path: Path) -> None:
    document = yaml.safe_load(tiny_study()) | {key: address if key == "store" else {"mlflow": address}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    for command in ("space", "search", "duel"):
        heard = invoked(app, [command, str(tmp_path / "study.yaml")], (tmp_path,))
        assert heard.code == 2
        assert not list(heard.faults(size=1000, places=(f"study.yaml: {key}",)))
        assert "s3cret" not in heard.out + heard.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.yaml"]


def test_addresses_without_a_password_are_taken() -> None:
    for address in (
        "sqlite:///study.db",
        "postgresql://me@host/db",
        "postgresql://me@/x?host=/run",
        "journal:file",
        "runs",
    ):
        assert without_password(address) == address
        assert parse_study(yaml.safe_dump(yaml.safe_load(tiny_study()) | {"store": address}), place="s").file.store


def test_a_ray_of_our_own_listens_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a node that is called 127.0.0.1 Ray's servers bind to the loopback; on any other, to every address."""
    from search.workers import ray_pool

    seen: dict[str, object] = {}

    def init(**how: object) -> None:
        seen.update(how, environment=os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"))

    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    exceptions = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init, exceptions=exceptions))
    monkeypatch.setitem(sys.modules, "ray.exceptions", exceptions)
    ray_pool._connected(ray_pool.LOCAL)
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    assert (seen["include_dashboard"], seen["environment"]) == (False, "0")
