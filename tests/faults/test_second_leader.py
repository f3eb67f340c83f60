"""A second process that would lead a study: refused in one line, or, where it takes the study over, the only one."""

import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.errors import SearchStoppedError, StoreError
from search.storage import leadership
from tests.experiments.test_cli import run
from tests.faults.forks import context
from tests.faults.made_up import lead
from tests.faults.phases import command
from tests.search.studies import tiny_study
from tests.search.workers.test_local_pool import SETTINGS, trials_of


def soon(look: Any) -> Any:
    """Return the first answer that is not empty; an empty one after a long time."""
    deadline = time.monotonic() + 120
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_a_second_command_is_refused_in_one_line(tmp_path: Path, tiny_models: Path) -> None:
    document = yaml.safe_load(tiny_study(trials=2000)) | {"tracking": {"mlflow": None}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(document))
    words = ["search", str(tmp_path / "tiny.yaml"), "--models-root", str(tiny_models), "--out", str(tmp_path / "tiny")]
    first = context().Process(target=command, args=(words, tmp_path, 1, None))
    first.start()
    try:
        assert soon(lambda: (tmp_path / "tiny" / "study.db").exists() or not first.is_alive()), (
            tmp_path / "log.txt"
        ).read_text()
        code, _, err = run(*words)
        assert (code, err.count("\n")) == (2, 1), err
        assert f"another process runs this study: process {first.pid} on {os.uname().nodename} since 20" in err
        assert err.rstrip().endswith("wait for it or stop it")
    finally:
        first.kill()
        first.join()


def lead_elsewhere(url: str, pipe: Any) -> None:
    """Lead a study as a process of another host does, and say how that ends."""
    setattr(leadership, "_machine", lambda: "elsewhere")  # noqa: B010 - what tells hosts apart
    try:
        lead(url, SETTINGS, seconds=0.02)
        pipe.send("ended by itself")
    except SearchStoppedError as error:
        pipe.send(str(error))


def test_a_leader_of_another_host_that_is_taken_over_at_work_stops_and_leaves_the_study_whole(tmp_path: Path) -> None:
    url, mine_theirs = f"sqlite:///{tmp_path / 'study.db'}", context().Pipe()
    first = context().Process(target=lead_elsewhere, args=(url, mine_theirs[1]))
    first.start()
    try:
        assert soon(lambda: leading(tmp_path / "study.db") == first.pid)
        with pytest.raises(StoreError, match=f"process {first.pid} on .* leads this study; .* --take-over"):
            lead(url, SETTINGS)
        heard = lead(url, SETTINGS, take_over=True)
        assert mine_theirs[0].poll(60)
        said = mine_theirs[0].recv()
    finally:
        first.kill()
        first.join()
    assert f"this study was taken over: process {os.getpid()} on" in said
    alone = lead(f"sqlite:///{tmp_path / 'alone.db'}", SETTINGS)
    assert trials_of(heard) == trials_of(alone)
    assert heard.verdicts == alone.verdicts


def leading(database: Path) -> int | None:
    """Return the number of the process that leads the study of a store, as its table says."""
    if not database.exists():
        return None
    with closing(sqlite3.connect(database)) as connection:
        try:
            rows = connection.execute("SELECT leader FROM mergesearch_leaders WHERE leader IS NOT NULL").fetchall()
        except sqlite3.OperationalError:
            return None  # there is no such table yet
    return next((int(json.loads(text)["process"]) for (text,) in rows), None)
