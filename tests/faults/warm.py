"""Imported by the process that tests fork their commands from: it has run them all once, so that others start fast."""

import contextlib
import io
import os
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
import yaml

from experiments.cli import main
from tests.search.studies import tiny_study
from tests.tiny import make_family


def run(*words: object) -> None:
    """Run a command in this process, in silence."""
    given = patch("sys.argv", ["mergesearch", *map(str, words)])
    with given, contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()


def warm() -> None:
    """Run a search, a report and an export in a folder that goes away.

    On one thread, as everything that is forked from here: threads of OpenMP do not outlive a fork, and a child that
    inherits a team of them waits for it for ever.
    """
    torch.set_num_threads(1)
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        models = make_family(home / "models")
        study = yaml.safe_load(tiny_study(trials=1)) | {"tracking": {"mlflow": f"sqlite:///{home / 'mlflow.db'}"}}
        (home / "tiny.yaml").write_text(yaml.safe_dump(study))
        os.chdir(home)
        try:
            run("search", "tiny.yaml", "--models-root", models)
            run("report", "runs/tiny")
            run("export", "runs/tiny", "--model", "merged", "--models-root", models)
        finally:
            os.chdir(before)


warm()
