"""Measures how long a study needs to its first forward pass, at its first start and at the next ones.

    OMP_NUM_THREADS=1 python -m experiments.bench.start STUDY.yaml --models-root DIR --data DIR

Every start is a process of its own that is ended at the moment the live model is first called. Seconds are CPU time
of the process and wall-clock time, imports included; the study's folder is a temporary one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def start_once(study: Path, folder: Path, root: Path | None, data: str | None) -> None:
    """Run a study until its model is first called; print the seconds and end the process."""
    import torch
    from transformers import PreTrainedModel

    from experiments.roots import models_roots
    from experiments.run import Overrides
    from search.records import Outlook, TrialRecord, Verdict
    from search.workers import run_search

    class Silent:
        def started(self, outlook: Outlook) -> None: ...
        def scored(self, record: TrialRecord) -> None: ...
        def finished(self, verdict: Verdict) -> None: ...

    def end(module: torch.nn.Module, _inputs: Any) -> None:
        if isinstance(module, PreTrainedModel):
            began = time.clock_gettime(time.CLOCK_BOOTTIME) - _process_began()
            print(f"{time.process_time():.1f} s of CPU, {began:.1f} s", flush=True)
            os._exit(0)

    torch.nn.modules.module.register_module_forward_pre_hook(end)
    loaded = Overrides(data=data).apply(study)
    roots = models_roots(None if root is None else [root])
    run_search(loaded, folder, observer=Silent(), models_roots=roots, device="cpu")


def _process_began() -> float:
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Start the study as often as was asked for, in one folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path)
    parser.add_argument("--models-root", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once is not None:
        start_once(arguments.study, arguments.once, arguments.models_root, arguments.data)
        return
    with tempfile.TemporaryDirectory(prefix="mergesearch-start-") as temporary:
        command = [
            sys.executable,
            "-m",
            "experiments.bench.start",
            *sys.argv[1:],
            "--once",
            str(Path(temporary, "study")),
        ]
        for number in range(arguments.starts):
            told = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"start {number + 1}: first forward pass after {told.stdout.splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
