"""The same study, seed and machine give the same trials, weights and answers, whatever else differs."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WAYS = (
    ({"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}, ("math,science", "kept", "1")),
    ({"PYTHONHASHSEED": "random", "OMP_NUM_THREADS": "2"}, ("science,math", "mapped", "2")),
)
"""Hash seed and threads of merging; the order of the parents, in memory or mapped, and how many processes score."""


def test_hash_seed_threads_order_of_parents_and_processes_change_no_bit(tmp_path: Path, tiny_models: Path) -> None:
    running = []
    for number, (environment, words) in enumerate(WAYS):
        command = [sys.executable, "-m", "tests.faults.deterministic", tiny_models, tmp_path / str(number), *words]
        whole = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        running.append(
            subprocess.Popen(list(map(str, command)), cwd=ROOT, env=whole, stdout=subprocess.PIPE, text=True)
        )
    told = [process.communicate(timeout=600)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(WAYS)
    one, other = (json.loads(text.splitlines()[-1]) for text in told)
    assert {"dare_ties", "della", "tpe", "trial 2 search"} <= set(one)
    assert other == one
