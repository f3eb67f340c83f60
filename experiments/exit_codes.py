"""How errors reach people: one clear line and an exit code, never a traceback for what a user can mend."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from evals.errors import EvalError, ran_out_of_memory
from experiments.errors import ExperimentError
from merge.documents import one_line
from merge.errors import MergeError
from search.errors import SearchError

RUN_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors of every room into a line on standard error and an exit code.

    Bad input (the errors that are also a ``ValueError``) exits with 2, a failed run with 1, Ctrl-C with 130.
    """
    try:
        yield
    except (MergeError, EvalError, SearchError, ExperimentError) as error:
        for line in str(error).split("\n"):
            typer.echo(f"error: {one_line(line)}", err=True)
        raise typer.Exit(BAD_INPUT if isinstance(error, ValueError) else RUN_FAILED) from None
    except KeyboardInterrupt:
        again = shlex.join(["mergesearch", *sys.argv[1:]])
        typer.echo(f"\ninterrupted: what was finished is kept; go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(RUN_FAILED) from None
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        typer.echo("error: out of memory; what was finished is kept, use fewer workers or a smaller model", err=True)
        raise typer.Exit(RUN_FAILED) from None
    except OSError as error:
        place = error.filename or "a file"
        said = error.strerror or error
        typer.echo(f"error: {place}: {said}; nothing was left half-written; mend it and run the same again", err=True)
        raise typer.Exit(RUN_FAILED) from None
