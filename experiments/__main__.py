"""``python -m experiments``: the command line from a bare clone."""

from mergesearch import main

main()
