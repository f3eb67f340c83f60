"""Where a study is tracked: its own word, MLflow's variable, the default; and how to look at it."""

from typing import Any

import pytest
import yaml

from experiments.errors import InputError
from experiments.tracking.address import how_to_open, tracking_uri
from search.study.study import LoadedStudy
from tests.search.studies import tiny_study


def study(**tracking: Any) -> LoadedStudy:
    document = yaml.safe_load(tiny_study())
    return LoadedStudy({**document, "tracking": tracking} if tracking else document, place="s")


def test_the_study_decides_then_the_variable_then_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(study()) == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert tracking_uri(study()) == "http://tracking.example:5000"
    assert tracking_uri(study(mlflow="sqlite:///own.db")) == "sqlite:///own.db"
    assert tracking_uri(study(mlflow=None)) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri(study()) == "sqlite:///mlflow.db"


def test_a_password_in_the_variable_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@tracking.example")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI: must have no password") as caught:
        tracking_uri(study())
    assert "s3cret" not in str(caught.value)


def test_a_server_is_opened_at_its_address_and_a_store_is_served() -> None:
    assert how_to_open("https://tracking.example") == "https://tracking.example"
    assert how_to_open("sqlite:///mlflow.db") == "mlflow ui --backend-store-uri sqlite:///mlflow.db"
