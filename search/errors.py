"""The errors of the search room.

SearchError
├── StudyError (ValueError)       the study file, or a hole in it, is wrong: nothing was run
│   └── SpaceError                a hole or a recipe that does not fit the family
├── StoreError (ValueError)       the store belongs to another study, or cannot be used
└── SearchStoppedError (RuntimeError)  the run failed half-way; what was finished is kept
"""


class SearchError(Exception):
    """Root of every error that the search room raises."""


class StudyError(SearchError, ValueError):
    """The study file is wrong; the message names the file, the YAML path and the remedy."""


class SpaceError(StudyError):
    """A hole is wrong, or a recipe does not fit the family that it should be read with."""


class StoreError(SearchError, ValueError):
    """The store cannot be used for this study: another study's, locked, or unreachable."""


class SearchStoppedError(SearchError, RuntimeError):
    """The search ended early; finished trials are kept and the message says how to go on."""
