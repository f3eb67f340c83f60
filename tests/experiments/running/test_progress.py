"""How far a search is: phases, the best, the time left."""

from experiments.running.progress import Progress, duration
from tests.experiments.running.records import OUTLOOK, baseline, record


def test_phases_follow_what_was_scored() -> None:
    progress = Progress(clock=lambda: 100.0)
    progress.start(OUTLOOK)
    seen = [progress.phase]
    for scored in (
        baseline("base", 0.2), baseline("equal weights", 0.3), record(0, 0.4), record(1), record(2, 0.1),
        record(3, 0.2), record(0, 0.4, part="selection", kind="finalist"), baseline("base", 0.2, part="test"),
    ):  # fmt: skip
        progress.add(scored)
        seen.append(progress.phase)
    assert seen == ["baselines", "baselines", "trials", "trials", "trials", "trials", "finalists", "finalists", "test"]
    assert progress.summary() == "study tiny: 4 of 4 trials in 0 s (3 complete, 1 stopped by the race)"


def test_the_best_is_the_best_that_answered_everything() -> None:
    progress = Progress(clock=lambda: 100.0)
    progress.start(OUTLOOK)
    for scored in (baseline("base", 0.2), baseline("equal weights", 0.3), record(0, 0.25), record(1)):
        progress.add(scored)
    progress.add(record(5, 0.9, part="test", kind="finalist"))
    assert progress.best is not None
    assert progress.baseline is not None
    assert progress.best_trial is not None
    assert (progress.best.name, progress.baseline.name, progress.best_trial.name) == (
        "equal weights", "equal weights", "trial 0",
    )  # fmt: skip


def test_workers_side_by_side_halve_the_time_left() -> None:
    now = [100.0]
    progress = Progress(clock=lambda: now[0])
    progress.start(OUTLOOK)
    assert progress.seconds_left() is None
    progress.add(record(0, 0.1, started=50.0, ended=60.0))  # an earlier run's
    assert progress.seconds_left() == 30.0
    for number in (1, 2):
        progress.add(record(number, 0.1, started=100.0, ended=110.0))
    now[0] = 110.0
    assert progress.seconds_left() == 5.0


def test_durations_read_as_a_person_says_them() -> None:
    assert [duration(seconds) for seconds in (9.4, 65, 7860)] == ["9 s", "1 min 05 s", "2 h 11 min"]
