"""Exercises every fault that the project withstands, and prints a table of kills and one of all faults.

    python -m experiments.bench.faults --kills 200 --scorer-kills 50 --out experiments/bench/results
    python -m experiments.bench.faults --kills 7 --scorer-kills 6 --only "kill|scorer"      (smallest form, minutes)

The table of kills has a row for each phase in which a leading process was killed with signal 9, and one for each way in
which scorers were lost. All else is a label and the tests that exercise it. Tests are run by pytest in processes of
their own, two at once; one may tell how often it did what it is about (``record_property("count", N)``, else 1) and
what (``"detail"``). Files of tests that no row names get a row for each of their tests, so that a new file needs no
word here. There is no peer. 250 kills take some ten minutes of CPU time.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from experiments.atomic_files import write_text_atomically
from experiments.bench.support.process import machine

ROOT = Path(__file__).resolve().parent.parent.parent
FAULTS = "tests/faults"
AT_ONCE = 2
"""Processes of pytest at once."""
TALLIES = {
    "kills": "kills",
    "at_end": "in its last instant",
    "in_flight": "jobs interrupted",
    "changed": "finished answers lost or changed",
    "asked_again": "finished answers asked again",
    "renumbered": "numbers or parameters changed",
}
"""What is counted of kills, and its column."""


@dataclass(frozen=True)
class Row:
    """A row of the table of all faults.

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
        kills: What it says of kills: of ``leader`` by study and phase, of ``scorers`` by the way they were lost.
    """

    file: str
    test: str
    state: str
    count: int
    detail: str
    kills: Mapping[str, Any] = field(default_factory=dict)


def _rows() -> Iterator[Row]:
    """Go through the rows that are named here."""
    here = f"{FAULTS}/test_"
    yield Row("kill -9 of the leader in every phase of real commands", (f"{here}kill_leader.py",))
    yield Row("kill -9 of the leader at any instant, three samplers", (f"{here}kill_often.py",))
    yield Row("scorers killed, hanging, out of memory; Ray actors killed", (f"{here}kill_scorers.py",))
    lost = "tests/search/workers/test_local_pool.py::test_a_job_that_kills_every_scorer_fails_and_the_search_goes_on"
    yield Row("a job that kills every scorer", (lost,))
    yield Row(
        "a second leader, and one that was taken over",
        ("tests/search/storage/test_leadership.py", f"{here}second_leader.py"),
    )
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
    yield Row("a parent's file replaced, overwritten or cut off during a study", (f"{here}parent_replaced.py",))
    base = "tests/experiments/demo/test_base_model.py::test_damage_is_told_in_one_line_and_mended"
    yield Row("files of caches cut off: prompts, compiled loops, base model", (f"{here}caches_cut.py", base))
    yield Row("out of memory in one candidate, and in three", (f"{here}out_of_memory.py",))


def main() -> None:
    """Run the tests of every row and print the tables; the exit code is 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="kills of leading processes, over the named phases")
    parser.add_argument("--scorer-kills", type=int, default=50, help="kills of scorers, a third of them on Ray")
    parser.add_argument("--seed", type=int, default=1, help="draws the instants of the kills")
    parser.add_argument("--only", default="", help="only rows whose label or tests match this expression")
    parser.add_argument("--out", type=Path, help="folder that gets kills.md and kills.json")
    options = parser.parse_args()
    rows = [row for row in (*_rows(), *_others()) if re.search(options.only, f"{row.label} {row.nodes}")]
    cases = _run([node for row in rows for node in row.nodes], options)
    text = "\n".join(_text(rows, cases, options))
    print(text)
    if options.out is not None:
        kept = [{"file": case.file, "test": case.test, "state": case.state, **case.kills} for case in cases]
        found = {"seed": options.seed, "machine": machine(), "cases": [one for one in kept if len(one) > 3]}
        write_text_atomically(options.out / "kills.json", json.dumps(found, indent=1) + "\n")
        write_text_atomically(options.out / "kills.md", text + "\n")
    raise SystemExit(any(case.state == "failed" for case in cases))


def _text(rows: Sequence[Row], cases: Sequence[Case], options: argparse.Namespace) -> Iterator[str]:
    """Go through the lines of the report: which kills, their table, the table of all faults."""
    command = f"python -m experiments.bench.faults --kills {options.kills} --scorer-kills {options.scorer_kills}"
    yield f"`{command} --seed {options.seed}`; {machine()}"
    studies = [study for case in cases for study in case.kills.get("leader", ())]
    if studies:
        yield f"Studies of the leading processes: {'; '.join(studies)}."
    yield f"\n| killed | where | {' | '.join(TALLIES.values())} |\n| --- | ---{' | ---:' * len(TALLIES)} |"
    yield from _kill_lines(cases)
    yield "\n| fault | done | tests | result | detail |\n| --- | ---: | ---: | --- | --- |"
    yield from _lines(rows, cases)


def _kill_lines(cases: Sequence[Case]) -> Iterator[str]:
    """Go through the table of kills."""
    phases: dict[str, Counter[str]] = {}
    for case in cases:
        for tallies in case.kills.get("leader", {}).values():
            for phase, tally in tallies.items():
                phases.setdefault(phase, Counter()).update(tally)
    for phase, total in phases.items():
        yield _kill_line("leader", phase, total)
    if phases:
        yield _kill_line("leader", "all phases", sum(phases.values(), Counter()))
    for case in cases:
        for way, losses in case.kills.get("scorers", {}).items():
            yield _kill_line("scorer", way, losses)


def _kill_line(who: str, where: str, tally: Mapping[str, int]) -> str:
    cells = " | ".join(str(tally.get(name, 0)) for name in TALLIES)
    return f"| {who} | {where} | {cells} |"


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


def _run(nodes: Sequence[str], options: argparse.Namespace) -> list[Case]:
    """Run tests in a few processes of pytest, and return what became of them."""
    shares = [share for share in (nodes[place::AT_ONCE] for place in range(AT_ONCE)) if share]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = threads.map(partial(_pytest, options=options), shares)
        return [case for cases in found for case in cases]


def _pytest(nodes: Sequence[str], options: argparse.Namespace) -> list[Case]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-p", "no:cacheprovider", "-o", "junit_family=xunit1", f"--junitxml={report}"]
        numbers = {"KILLS": options.kills, "SCORER_KILLS": options.scorer_kills, "KILLS_SEED": options.seed}
        environment = {f"MERGESEARCH_{name}": str(number) for name, number in numbers.items()}
        command = [sys.executable, "-m", "pytest", *words, *nodes]
        own = {**os.environ, **environment, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=ROOT, env=own, stdout=sys.stderr, check=False)
        if not report.is_file():
            return []
        return list(map(_case, ET.parse(report).getroot().iter("testcase")))  # noqa: S314 - pytest's own file


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
        {name: json.loads(properties[name]) for name in ("leader", "scorers") if name in properties},
    )


if __name__ == "__main__":
    main()
