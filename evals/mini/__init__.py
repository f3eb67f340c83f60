"""The embedded questions, written for this project: their tables, the rows made from them, and the task files."""
