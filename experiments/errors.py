"""The errors of the experiments room.

ExperimentError
└── InputError (ValueError)   a command was given something that it cannot use
"""


class ExperimentError(Exception):
    """Root of every error that the experiments room raises."""


class InputError(ExperimentError, ValueError):
    """A command was given something that it cannot use; the message says what to give instead."""
