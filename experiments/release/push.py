"""Uploads a model folder to the hub; the token stays with huggingface_hub and is never shown."""

import os
import re
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from experiments.errors import ExperimentError, InputError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class PushError(ExperimentError, RuntimeError):
    """The hub did not take the model; the folder is still here."""


def check_repository(repository: str) -> None:
    """Find out whether a push can begin, before anything is merged.

    Raises:
        InputError: It is no ``USER/NAME``, or there is no token.
    """
    if _REPOSITORY.fullmatch(repository) is None or ".." in repository or "--" in repository:
        raise InputError(f"--push: must be USER/NAME, got '{repository}'")
    if get_token() is None:
        raise InputError("--push: must have a token of the hub; run 'hf auth login' or set HF_TOKEN")


def push_folder(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a model folder; return its address.

    Args:
        folder: What to upload, whole.
        repository: ``USER/NAME``; made if missing.
        private: Whether only its owner sees it, if it is made.

    Raises:
        PushError: The hub refuses or does not answer.
    """
    token = get_token()
    client = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        address = client.create_repo(repository, private=private, exist_ok=True)
        client.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Merged model, recipe and card from mergesearch"
        )
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        said = said if token is None else said.replace(token, "***")
        raise PushError(f"--push {repository}: the hub refused: {said}; the model is still in {folder}") from None
    return str(address)
