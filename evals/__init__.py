"""Models and tasks: questions, scoring and statistics; knows nothing of recipes."""
