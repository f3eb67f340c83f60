"""What several commands share, and what no command is.

options         options that several commands take, with their help
fast_imports    imports without garbage collection, for commands that are quicker than it
mergekit_flags  flags of ``mergekit-yaml`` that need no action here
"""
