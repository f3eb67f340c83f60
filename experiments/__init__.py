"""What people run: the command line, `experiments.run` for notebooks, MLflow, reports, export, the demo.

A study runs in this order: a command (or `run`) reads it, `running` shows it and writes its folder, `report` draws it,
`release` exports and checks the winner.

cli, __main__  the command line: which commands there are, and where they start
package_guard  checks first that no other package hides one of our four
commands/      one file per command, thin over what follows
running/       runs a study for a person or a program: progress, verdict, places
study_folder/  the folder of a study: what lies where, how it is written and read
tracking/      the MLflow mirror; the one package that imports mlflow
report/        a study's page, its tables and figures
release/       the winner as weights and card, on disk or the hub; checking a finished study again
evaluate/      scores models or recipes on tasks, with lm-eval's flags and files
duel/          families against each other at equal budgets
reproduce/     the model of a model card, built and measured again
demo/          the embedded example, and where its base model comes from
studies/       ready study files
reference/     documentation that is made from the code
bench/         measurements against peers and of our own costs; run by hand
errors         what this room raises
exit_codes     how errors reach people: a line and an exit code
devices        checks a device's name before anything is built on it
models_roots   where model names are looked up
atomic_files   files that are there whole or not at all
score_tables   tables of scores, as Markdown or CSV
number_format  how scores, differences, p-values and durations are printed
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.running.run import run

__all__ = ["run"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'experiments' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module("experiments.running.run"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
