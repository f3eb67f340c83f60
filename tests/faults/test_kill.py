"""kill -9 in the middle of a search: what was finished stays, what was in flight is run again as it was."""

import multiprocessing
import os
import random
import signal
from pathlib import Path

from search.study import parse_study
from search.workers import run_search
from tests.search.recorder import Recorder
from tests.search.studies import tiny_study

KILLS = 4


def run(folder: Path, models: Path) -> None:
    """Run the tiny study in a process of its own."""
    run_search(parse_study(tiny_study(), place="tiny.yaml"), folder, observer=Recorder(), models_roots=[models])


def test_a_killed_study_ends_with_the_trials_of_an_uninterrupted_one(tmp_path: Path, tiny_models: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["search.workers", "lm_eval.evaluator", "transformers.models.llama"])
    chance = random.Random(0)
    interrupted = tmp_path / "interrupted"
    in_flight = 0
    for _ in range(KILLS):
        process = context.Process(target=run, args=(interrupted, tiny_models))
        process.start()
        process.join(timeout=chance.uniform(1.5, 5.0))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            in_flight += 1
        process.join()
    assert in_flight, "every run ended before it could be killed: the test shows nothing"
    late, undisturbed = Recorder(), Recorder()
    study = parse_study(tiny_study(), place="tiny.yaml")
    run_search(study, interrupted, observer=late, models_roots=[tiny_models])
    run_search(study, tmp_path / "undisturbed", observer=undisturbed, models_roots=[tiny_models])
    expected = [(r.name, r.part, r.params, r.metrics, r.state) for r in undisturbed.records]
    assert [(r.name, r.part, r.params, r.metrics, r.state) for r in late.records] == expected
