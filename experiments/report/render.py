"""Renders a page: Jinja2 with autoescape, Plotly bundled once, a policy under which nothing else runs or loads."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from experiments.number_format import count, duration, score


class Figures:
    """The figures of one page, by the names under which its template draws them.

    Attributes:
        data: Figures by name, as Plotly data.
    """

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def add(self, name: str, figure: go.Figure | None) -> str | None:
        """Add a figure and return its name; None in, None out."""
        if figure is None:
            return None
        self.data[name] = json.loads(figure.to_json())
        return name

    def as_script(self) -> Markup:
        """Return all figures as JSON that cannot end the script element that it stands in."""
        text = json.dumps(self.data, allow_nan=False, separators=(",", ":"))
        for mark in "<>&\u2028\u2029":
            text = text.replace(mark, f"\\u{ord(mark):04x}")
        return Markup(text)  # noqa: S704 - JSON without any mark of HTML


def render(template: str, figures: Figures, values: Mapping[str, Any]) -> str:
    """Return a page that needs no network.

    Args:
        template: File name in ``templates``.
        figures: Its figures.
        values: What the template shows; every text in it is escaped.
    """
    environment = Environment(
        loader=PackageLoader("experiments.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": score, "count": count, "duration": duration, "breakable": breakable}
    loader = environment.loader
    assert loader is not None
    library = get_plotlyjs() if figures.data else ""
    drawing = loader.get_source(environment, "draw.js")[0] if figures.data else ""
    return environment.get_template(template).render(
        **values,
        figures=figures.as_script(),
        library=Markup(library),  # noqa: S704 - the library's own text
        drawing=Markup(drawing),  # noqa: S704 - our own text
        style=Markup(loader.get_source(environment, "style.css")[0]),  # noqa: S704 - our own text
        policy="default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; "
        f"script-src {_hash(library)} {_hash(drawing)}",
    )


def _hash(script: str) -> str:
    """Return a script's hash as a policy names it: the element's text as the page has it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def breakable(name: object) -> str:
    """Return a name that a narrow screen may break after a slash, a dot or an underscore."""
    return re.sub(r"([/._])(?=\w)", "\\1\u200b", str(name))
