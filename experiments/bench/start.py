"""Seconds from the start of a process to the model's first forward pass, at a first start and at later ones.

    OMP_NUM_THREADS=1 python -m experiments.bench.start STUDY.yaml --models-root DIR --data DIR
    OMP_NUM_THREADS=1 python -m experiments.bench.start MODEL --suite core --limit 10 --models-root DIR --data DIR

No peer: it shows what the caches of tasks, prompts and tokens save. Takes a minute; it is its own smallest form.

Every start is a process of its own that ends at the moment when the live model is first called. Seconds are CPU time of
the process and wall-clock time, imports included; the folders of study and cache are temporary.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def end_at_first_pass() -> None:
    """Print the seconds and end the process when a model of transformers is first called."""
    import torch
    from transformers import PreTrainedModel

    def end(module: torch.nn.Module, _inputs: Any) -> None:
        if isinstance(module, PreTrainedModel):
            began = time.clock_gettime(time.CLOCK_BOOTTIME) - _process_began()
            print(f"{time.process_time():.1f} s of CPU, {began:.1f} s", flush=True)
            os._exit(0)

    torch.nn.modules.module.register_module_forward_pre_hook(end)


def start_study(study: Path, folder: Path, root: Path | None, data: str | None) -> None:
    """Run a study until its model is first called."""
    from experiments.models_roots import models_roots
    from experiments.running.overrides import Overrides
    from search.loop.run import run_search
    from search.results.observer import NullObserver

    loaded = Overrides(data=data).apply(study)
    roots = models_roots(None if root is None else [root])
    run_search(loaded, folder, observer=NullObserver(), models_roots=roots, device="cpu")


def start_evaluation(model: str, arguments: argparse.Namespace) -> None:
    """Evaluate a model until it is first called."""
    from experiments.evaluate.options import EvaluateOptions
    from experiments.evaluate.run import evaluate_models

    options = EvaluateOptions(suite=arguments.suite, limit=arguments.limit, data=arguments.data)
    roots = None if arguments.models_root is None else [arguments.models_root]
    evaluate_models([model], options=options, models_roots=roots)


def _process_began() -> float:
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Start as often as was asked for, in one folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help="a study's file; with --suite, a model")
    parser.add_argument("--suite", help="evaluate the model on this suite")
    parser.add_argument("--limit", type=int, help="questions per task of the suite")
    parser.add_argument("--models-root", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once is not None:
        end_at_first_pass()
        if arguments.suite is not None:
            start_evaluation(arguments.what, arguments)
        else:
            start_study(Path(arguments.what), arguments.once, arguments.models_root, arguments.data)
        return
    with tempfile.TemporaryDirectory(prefix="mergesearch-start-") as temporary:
        command = [sys.executable, "-m", "experiments.bench.start", *sys.argv[1:], "--once", f"{temporary}/study"]
        place = os.environ | {"MERGESEARCH_CACHE": f"{temporary}/cache"}
        for number in range(arguments.starts):
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=place)
            print(f"start {number + 1}: first forward pass after {done.stdout.splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
