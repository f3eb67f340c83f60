"""Exercises every fault that the project withstands and prints a table of what was done how often, and how it went.

    python -m experiments.bench.faults [--kills 200] [--only PATTERN]

A row is a label and the tests that exercise it. Tests are run by pytest in a process of their own; one may tell how
often it did what it is about (``record_property("count", N)``, else 1) and what (``"detail"``). Files of tests that no
row names get a row for each of their tests, so that a new file needs no word here.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FAULTS = "tests/faults"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        label: What happens.
        nodes: Files of tests, or ``FILE::TEST``, below the checkout.
    """

    label: str
    nodes: tuple[str, ...]

    def has(self, file: str, test: str) -> bool:
        """Tell whether a test is one of the row's."""
        return any(node == file or node == f"{file}::{test}" for node in self.nodes)


@dataclass(frozen=True)
class Case:
    """What became of a test.

    Attributes:
        file: Its file below the checkout.
        test: Its name, without its parameters.
        state: ``passed``, ``failed`` or ``skipped``.
        count: How often it did what it is about.
        detail: What it says of that, or why it was skipped.
    """

    file: str
    test: str
    state: str
    count: int
    detail: str


def _rows() -> Iterator[Row]:
    """Go through the rows that are named here."""
    here = f"{FAULTS}/test_"
    yield Row("kill -9 inside ask, merge, scoring, tell, MLflow write, report, export", (f"{here}kill_stages.py",))
    yield Row("kill -9 at any instant of a search, three samplers", (f"{here}kill_often.py",))
    yield Row("disk full under the store", (f"{here}disk_full.py::test_under_the_store",))
    yield Row("disk full under an export", (f"{here}disk_full.py::test_under_an_export",))
    yield Row("disk full under the cache of prompts", (f"{here}disk_full.py::test_under_the_cache_of_prompts",))
    yield Row("disk full under MLflow", (f"{here}disk_full.py::test_under_mlflow",))
    yield Row("sqlite file locked", (f"{here}storage_away.py::test_a_locked_sqlite_file_is_waited_for",))
    postgres = "test_a_postgresql_server_that_stops_and_starts_is_waited_for"
    yield Row("PostgreSQL stopped and started", (f"{here}storage_away.py::{postgres}",))
    away = "test_a_storage_that_stays_away_or_is_broken_ends_in_one_line"
    yield Row("a storage that stays away, or is broken", (f"{here}storage_away.py::{away}",))
    torn = "test_a_line_of_a_journal_that_a_killed_process_left_half_written_harms_nothing"
    yield Row("a journal cut off in a line", (f"{here}storage_away.py::{torn}",))
    scorers = "tests/search/workers/test_local_pool.py::"
    lost = ("test_a_scorer_that_is_killed_or_hangs_is_replaced_and_its_job_runs_again",
            "test_a_job_that_kills_every_scorer_fails_and_the_search_goes_on")  # fmt: skip
    yield Row("a scorer dies or hangs", tuple(f"{scorers}{name}" for name in lost))
    yield Row("Ray loses an actor", (f"{here}workers_fail.py",))
    yield Row("a second leader, and one that was taken over", ("tests/search/storage/test_leadership.py",))
    yield Row("a parent's file replaced, overwritten or cut off during a study", (f"{here}parent_replaced.py",))
    base = "tests/experiments/demo/test_base_model.py::test_damage_is_told_in_one_line_and_mended"
    yield Row("files of caches cut off: prompts, compiled loops, base model", (f"{here}caches_cut.py", base))
    yield Row("out of memory in one candidate, and in three", (f"{here}out_of_memory.py",))


def main() -> None:
    """Run the tests of every row and print the table; the exit code is 1 when one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="kills over all stages together")
    parser.add_argument("--only", default="", help="only rows whose label or tests match this expression")
    options = parser.parse_args()
    rows = [row for row in (*_rows(), *_others()) if re.search(options.only, f"{row.label} {row.nodes}")]
    cases = list(_run([node for row in rows for node in row.nodes], kills=options.kills))
    print("| fault | done | tests | result | detail |")
    print("| --- | ---: | ---: | --- | --- |")
    for line in _lines(rows, cases):
        print(line)
    raise SystemExit(any(case.state == "failed" for case in cases))


def _others() -> Iterator[Row]:
    """Go through the files of fault tests that no row names."""
    named = {node.partition("::")[0] for row in _rows() for node in row.nodes}
    for path in sorted((ROOT / FAULTS).glob("test_*.py")):
        file = path.relative_to(ROOT).as_posix()
        if file not in named:
            yield Row("", (file,))


def _lines(rows: Sequence[Row], cases: Sequence[Case]) -> Iterator[str]:
    for row in rows:
        mine = [case for case in cases if row.has(case.file, case.test)]
        if row.label:
            yield _line(row.label, mine)
            continue
        for test in dict.fromkeys(case.test for case in mine):
            yield _line(test.removeprefix("test_").replace("_", " "), [case for case in mine if case.test == test])


def _line(label: str, cases: Sequence[Case]) -> str:
    states = [case.state for case in cases]
    result = "not run" if not cases else "failed" if "failed" in states else "held" if "passed" in states else "skipped"
    done = sum(case.count for case in cases if case.state == "passed")
    detail = "; ".join(dict.fromkeys(case.detail for case in cases if case.detail))
    return f"| {label} | {done} | {len(cases)} | {result} | {detail} |"


def _run(nodes: Sequence[str], *, kills: int) -> Iterator[Case]:
    """Run tests and go through what became of them."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.xml"
        words = ["-p", "no:cacheprovider", "-o", "junit_family=xunit1", f"--junitxml={told}"]
        environment = {**os.environ, "MERGESEARCH_KILLS": str(kills), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", *words, *nodes]
        subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False)
        if told.is_file():
            yield from map(_case, ET.parse(told).getroot().iter("testcase"))  # noqa: S314 - pytest's own file


def _case(element: ET.Element) -> Case:
    properties: Mapping[str, str] = {one.get("name", ""): one.get("value", "") for one in element.iter("property")}
    failed = element.find("failure") is not None or element.find("error") is not None
    skipped = element.find("skipped")
    detail = properties.get("detail", "") if skipped is None else str(skipped.get("message", ""))
    return Case(
        element.get("file", ""),
        element.get("name", "").partition("[")[0],
        "failed" if failed else "passed" if skipped is None else "skipped",
        int(properties.get("count", "1")),
        detail,
    )


if __name__ == "__main__":
    main()
