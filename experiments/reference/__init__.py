"""Documentation that is made from the code, so that it cannot say anything else; a test keeps each page true.

cli             ``docs/cli.md``, from the command line itself: ``python -m experiments.reference.cli > docs/cli.md``
study_file      ``docs/study-file.md``, and the JSON schema that the ready studies name, from ``search.study``:
                ``python -m experiments.reference.study_file``
study_sections  what that page has beside the schema's tables: order, introductions, examples
"""
