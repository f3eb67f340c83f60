"""How scores, differences, p-values, counts and durations are printed, on screen and on every page."""

import math

TESTS = {"mcnemar": "exact McNemar", "wilcoxon": "Wilcoxon", "": ""}
"""Names of paired tests as tables print them."""


def score(value: float, digits: int = 4) -> str:
    """Return a score with a fixed number of digits; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int = 4) -> str:
    """Return a difference with its sign; one that would round to zero keeps two significant digits instead."""
    if math.isnan(value):
        return ""
    rounded = f"{value:+.{digits}f}"
    return f"{value:+.1e}" if value and float(rounded) == 0 else rounded


def p_value(value: float) -> str:
    """Return a p-value with three significant digits; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.3g}"


def count(value: float) -> str:
    """Return a whole number with narrow spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Return a duration as text: ``12.3 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s"
