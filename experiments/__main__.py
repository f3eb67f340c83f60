"""``python -m experiments``: the command line from a bare clone."""

from experiments.cli import main

main()
