"""``mergesearch list``: what can be named in recipes and studies."""

from collections.abc import Iterator
from typing import Annotated

import typer

from experiments.errors import InputError
from experiments.exit_codes import explained


def list_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="methods|samplers|suites",
            help="What to list.",
            autocompletion=lambda: ["methods", "samplers", "suites"],
        ),
    ],
) -> None:
    """List merge methods with their parameters, samplers, or suites of tasks."""
    with explained():
        for line in listing(what):
            typer.echo(line)


def listing(what: str) -> Iterator[str]:
    """Go through the lines of a list.

    Raises:
        InputError: There is no such list.
    """
    known = {"methods": _methods, "samplers": _samplers, "suites": _suites}
    if what not in known:
        raise InputError(f"list: must be one of {', '.join(known)}, got '{what}'")
    return known[what]()


def _methods() -> Iterator[str]:
    from merge.methods import get_method, method_names

    for name in method_names():
        parameters = ", ".join(get_method(name).parameters())
        yield f"{name:18s} {parameters}"


def _samplers() -> Iterator[str]:
    from search.samplers import sampler_names

    yield from sampler_names()


def _suites() -> Iterator[str]:
    from evals.suites import load_suite, suite_names

    for name in suite_names():
        yield f"{name:14s} {load_suite(name).about}"
