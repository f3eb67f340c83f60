"""A study: what its file may hold, and the file that was read.

* ``schema.py`` has every section and key, with type, range, default and meaning, and words for what is wrong.
* ``addresses.py`` refuses addresses of stores and servers that have a password in them.
* ``study.py`` reads a file into sections, search space and known recipes, before any model is opened; it also tells
  which changes make another study.
* ``json_schema.py`` gives the same keys to editors, as a JSON schema.
"""
