"""The commands, a file and a short function each; what a command does lives in the package it calls.

Heavy imports stand inside the functions, so that ``mergesearch --help`` answers at once.

search, space, demo, duel     searching for a merge
merge, evaluate, reproduce    building and scoring models
report, export, verify        using a finished study
mlflow_sync                   a study's MLflow runs, written again
list, schema                  what recipes and studies may say
worker                        is gone; says what replaced it
support/                      options that several commands take, and what no command is
"""
