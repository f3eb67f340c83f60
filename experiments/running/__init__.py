"""Runs a study for a person or a program, as ``mergesearch search`` and `experiments.run` do.

What happens in which order:

overrides       reads the study from a file, a mapping or an object, with what the caller says instead of it
run             `run`: checks the device, opens folder and mirror, runs the search, shows the verdict
observers       what the search tells is written to the study's copy, the report, the mirror
mirror          opens the MLflow mirror, or makes it again from the store
renderers       chooses how the search is shown, each a `renderer`:
renderer        what a renderer does
panel           a live picture in place, on a terminal
plain           one line an event
quiet           the verdict alone
json_lines      one JSON object an event, for programs
progress        what they show, added up from what the search tells
verdict_screen  the verdict in a few lines and a table
places          where things are, and how to look at each
space_table     what ``mergesearch space`` prints
"""
