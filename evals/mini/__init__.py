"""The embedded tasks: small question sets in lm-eval's format, written for this project, that need no network.

The YAML files and the folders beside them are the tasks; see README.md.

write_questions  writes the rows of the sets that are made by rule
word_problems    the templates of the word problems
"""
