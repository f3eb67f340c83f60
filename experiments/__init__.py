"""What people run: the command line, tracking, tables, export and the demo."""
