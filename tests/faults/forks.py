"""Where tests that kill processes fork them from: one process that has everything imported, and run once if need be."""

import multiprocessing
import sys
from typing import Any

LIGHT = "tests.faults.made_up"
WHOLE = ("tests.faults.phases", "tests.faults.warm")
"""Commands of the real command line, all of which the second ran once: some ten seconds, and as many saved by each."""


def context() -> Any:
    """Return a context whose processes begin with all that this test run needs; it has one process to fork from."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([LIGHT, *(WHOLE if WHOLE[0] in sys.modules else ())])
    return made
