"""The folder of a study, ``runs/NAME``: what lies where, how it is written while a search runs, how it is read again.

folder        `StudyFolder` names the paths, its store and its study; `FolderWriter` fills it; `read_verdict` reads it
answers_csv   ``answers.csv``: every answer of every candidate, written as they come; only what is new
trials_csv    ``trials.csv``: a row per trial, from a draft that grows with the search
verdict_text  the verdict in sentences, and what a comparison shows
versions      ``versions.json``: the versions of what decides a score
"""
