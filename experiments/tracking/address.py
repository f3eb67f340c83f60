"""Where a study is tracked: its own word, else MLflow's environment variables, else a file in the current folder."""

import os

from experiments.errors import InputError
from search.study.addresses import without_password
from search.study.study import LoadedStudy

VARIABLE = "MLFLOW_TRACKING_URI"


def tracking_uri(study: LoadedStudy) -> str | None:
    """Return the MLflow tracking URI of a study; None where it is not tracked.

    The study's ``tracking.mlflow`` decides where it is written, also as ``null``; else ``MLFLOW_TRACKING_URI``; else
    the default of the study file, a sqlite file in the current folder.

    Raises:
        InputError: The variable holds a password, which would be shown and kept.
    """
    section = study.file.tracking
    address = os.environ.get(VARIABLE)
    if "mlflow" in section.model_fields_set or not address:
        return section.mlflow
    try:
        return without_password(address)
    except ValueError as error:
        raise InputError(f"{VARIABLE}: {error}") from None


def how_to_open(uri: str, mlflow: str = "mlflow") -> str:
    """Return how to look at what is tracked: a server's address for a browser, else the command that serves a store.

    Args:
        uri: An MLflow tracking URI.
        mlflow: How the program is called.
    """
    return uri if uri.startswith(("http://", "https://")) else f"{mlflow} ui --backend-store-uri {uri}"
