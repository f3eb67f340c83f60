"""Rebuilds what a model card describes and measures what it claims.

`page` reads a card, `recipes` finds how the model was made, `scores` finds what is claimed, `measure` scores the
rebuilt model, `command` puts them together and prints published, measured, interval and verdict side by side.
"""
