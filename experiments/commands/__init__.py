"""The commands: one short function each, grouped by what they are for; what one does lives in the module it calls.

Heavy imports stand inside the functions, so that ``mergesearch --help`` answers at once.
"""
