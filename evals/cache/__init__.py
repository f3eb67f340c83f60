"""What was worked out once and holds until something it depends on changes: tasks, prompts, tokens.

fingerprint  keys: hashes of libraries, our own sources, data files and tokenizers
disk_cache   one file per result, under its key; a damaged one counts as not there
"""
