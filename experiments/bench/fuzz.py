"""Feeds damaged and hostile files of every kind to the readers, and tabulates accepted, refused and failed ones.

    python -m experiments.bench.fuzz --inputs 20000

No peer. Takes about 40 minutes for 20,000 inputs; in its smallest form, ``--inputs 500``, 2 minutes. Needs a checkout
with its tests: the inputs, and what each answer must hold, are those of ``tests/faults/test_fuzz.py``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
COLUMNS = ("kind", "inputs", "accepted", "refused", "failed", "peak_mb", "slowest_cpu_s")


def main() -> None:
    """Run the fuzzer, print its table, and exit with its code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs over all kinds together")
    parser.add_argument("--kind", default="test_hostile_files", help="only tests whose name has this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mergesearch-fuzz-") as folder:
        log = Path(folder, "log.jsonl")
        environment = os.environ | {"MERGESEARCH_FUZZ": str(arguments.inputs), "MERGESEARCH_FUZZ_LOG": str(log)}
        command = [sys.executable, "-m", "pytest", "tests/faults/test_fuzz.py", "-k", arguments.kind]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        lines = log.read_text("utf-8").splitlines() if log.is_file() else []
    rows = [json.loads(line) for line in lines]
    print(f"| {' | '.join(COLUMNS)} |")
    print("| --- |" + " ---: |" * (len(COLUMNS) - 1))
    for row in rows:
        print(f"| {' | '.join(str(row[name]) for name in COLUMNS)} |")
    print(f"{sum(row['inputs'] for row in rows)} inputs, {len(rows)} kinds without a fault")
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
