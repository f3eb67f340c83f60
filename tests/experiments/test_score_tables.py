"""Tables of scores, and files that are written whole or not at all."""

import errno
import io
import os
from pathlib import Path

import pandas as pd
import pytest

from experiments.atomic_files import write_bytes_atomically, write_text_atomically
from experiments.score_tables import parents_against_winner, to_csv, to_markdown, trials_table
from search.results.observer import TrialRecord

ACC, BITS = "arc/acc_norm", "gsm8k/bits"


def scores() -> pd.DataFrame:
    columns = {"math": {ACC: 0.30, BITS: 0.9}, "science": {ACC: 0.36, BITS: 1.7}, "trial 3": {ACC: 0.36, BITS: 1.0}}
    return parents_against_winner(columns, {ACC: True, BITS: False})


def record(number: int, **changes: object) -> TrialRecord:
    facts: dict[str, object] = {
        "study": "s", "study_id": "d", "number": number, "name": f"trial {number}", "family": "ties", "kind": "trial",
        "params": {"name": 0.5}, "metrics": {ACC: 0.3, "objective": 0.3}, "recipe_yaml": "a: 1\n", "state": "complete",
        "reason": None, "started": 10.0, "ended": 12.5, "parts": {"merge": 1.0},
    }  # fmt: skip
    return TrialRecord(**{**facts, **changes})  # type: ignore[arg-type]


def test_the_best_of_each_row_is_bold_in_the_metrics_own_direction() -> None:
    lines = to_markdown(scores()).splitlines()
    assert lines[0] == "| metric | math | science | trial 3 |"
    assert lines[2] == f"| {ACC} ↑ | 0.3000 | **0.3600** | **0.3600** |"
    assert lines[3] == f"| {BITS} ↓ | **0.9000** | 1.7000 | 1.0000 |"


def test_a_score_that_is_missing_is_empty_and_never_best() -> None:
    table = parents_against_winner({"a": {ACC: 0.5}, "b": {BITS: 2.0}, "c": {BITS: 3.0}}, {ACC: True, BITS: False})
    assert table.isna().loc[BITS, "a"]
    assert to_markdown(table).splitlines()[2:] == [
        f"| {ACC} ↑ | 0.5000 |  |  |",
        f"| {BITS} ↓ |  | **2.0000** | 3.0000 |",
    ]


def test_a_row_whose_values_print_alike_has_no_best() -> None:
    table = parents_against_winner({"a": {ACC: 0.50001}, "b": {ACC: 0.50002}}, {ACC: True})
    assert to_markdown(table).splitlines()[2] == f"| {ACC} | 0.5000 | 0.5000 |"


def test_hostile_names_stay_in_their_cell() -> None:
    table = parents_against_winner({"a|b\n| c <script>": {"x|*y*\r\n": 1.0}, "d": {"x|*y*\r\n": 0.0}}, {})
    lines = to_markdown(table).splitlines()
    assert len(lines) == 3
    assert all(line.replace("\\|", "").count("|") == 4 for line in lines)
    assert "<" not in to_markdown(table)


def test_csv_keeps_every_digit_and_any_name() -> None:
    table = parents_against_winner({'a,"b"\nc': {ACC: 0.1 + 0.2}}, {ACC: True})
    again = pd.read_csv(io.StringIO(to_csv(table)), index_col="metric", dtype=str)
    assert again.loc[ACC, 'a,"b"\nc'] == repr(0.1 + 0.2)


def test_trials_become_rows_and_no_hole_takes_another_column() -> None:
    failed = record(1, metrics={}, params={"t.self_attn.0": 0.1}, state="failed", reason="nan")
    table = trials_table([record(0), failed])
    assert list(table["name"]) == ["trial 0", "trial 1"]
    assert table.loc[0, "param:name"] == 0.5
    assert table.loc[0, "seconds"] == 2.5
    assert table.loc[1, "reason"] == "nan"
    assert table.isna().loc[1, ACC]


def test_no_trials_is_a_table_without_rows() -> None:
    assert to_csv(trials_table([])).startswith("number,name,family")


def test_atomic_write_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.yaml"
    write_text_atomically(path, "old\n")
    write_text_atomically(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["file.yaml"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "best.yaml"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_bytes_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
