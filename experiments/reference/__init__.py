"""Documentation that is made from the code, so that it cannot say anything else; a test keeps each page true.

cli  ``docs/cli.md``, from the command line itself: ``python -m experiments.reference.cli > docs/cli.md``
"""
