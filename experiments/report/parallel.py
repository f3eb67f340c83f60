"""One family's trials as lines over their holes: parallel coordinates that need no WebGL and print."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from experiments.report.figures import about, plain, shown, styled
from experiments.report.study_facts import Scoring

SCALE = ((0.0, "#8a94a6"), (0.5, "#4aa3a2"), (1.0, "#f2a541"))
"""Colours from the worst trial to the best."""
MAX_LINES = 200
"""Most trials drawn: the best ones."""


def parallel_coordinates(trials: Sequence[Scoring]) -> go.Figure | None:
    """Return one family's fully scored trials as lines over their holes, coloured by objective, the best on top.

    Lines of their own rather than Plotly's parallel coordinates, which need WebGL and print as nothing.
    """
    full = sorted((e for e in trials if e.record.state == "complete"), key=lambda e: e.record.metrics["objective"])
    names = list(dict.fromkeys(name for scoring in full for name in scoring.record.params))
    if len(full) < 2 or not names:
        return None
    columns = {name: [scoring.record.params.get(name) for scoring in full] for name in names}
    columns["objective"] = [scoring.record.metrics["objective"] for scoring in full]
    axes = {name: _axis(values) for name, values in columns.items()}
    low, high = (float(scoring.record.metrics["objective"]) for scoring in (full[0], full[-1]))
    figure = go.Figure()
    for index, scoring in enumerate(full[-MAX_LINES:]):
        value = scoring.record.metrics["objective"]
        row: dict[str, Any] = {**scoring.record.params, "objective": value}
        share = (value - low) / (high - low) if high > low else 1.0
        drawn = [name for name in axes if name in row]
        best = index == len(full[-MAX_LINES:]) - 1
        figure.add_trace(
            go.Scatter(
                x=[list(axes).index(name) for name in drawn],
                y=[axes[name][0](row[name]) for name in drawn],
                mode="lines",
                line={"width": 3.5 if best else 1.4, "color": _colour(share)},
                opacity=1.0 if best else 0.35 + 0.45 * share,
                text=[about(scoring, scoring.asked)] * len(drawn),
                hoverinfo="text",
                showlegend=False,
            )
        )
    for index, (_, ends) in enumerate(axes.values()):
        line = {"width": 1, "color": "#8a94a6"}
        figure.add_shape(type="line", x0=index, x1=index, y0=0, y1=1, line=line, layer="below")
        for height, text in ends:
            figure.add_annotation(
                x=index, y=height, text=plain(text, 12), showarrow=False, xanchor="center",
                yanchor="bottom" if height >= 1 else "top" if height <= 0 else "middle", font={"size": 11},
            )  # fmt: skip
    figure.update_xaxes(
        tickvals=list(range(len(axes))), ticktext=[_wrapped(name) for name in axes], showgrid=False, side="top",
        range=[-0.4, len(axes) - 0.6], tickangle=0, fixedrange=True,
    )  # fmt: skip
    figure.update_yaxes(visible=False, range=[-0.09, 1.09], fixedrange=True)
    return styled(figure, "", "", 420, top=80)


def _axis(values: Sequence[Any]) -> tuple[Any, list[tuple[float, str]]]:
    """Return a function from a value to its height between 0 and 1, and the axis labels as (height, text)."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        low, high = min(present), max(present)
        if low == high:
            return (lambda _: 0.5), [(0.5, shown(low))]
        return (lambda value: (value - low) / (high - low)), [(0.0, shown(low)), (1.0, shown(high))]
    options = sorted({str(value) for value in present})
    step = 1 / max(1, len(options) - 1)
    return (lambda value: options.index(str(value)) * step), [(i * step, o) for i, o in enumerate(options)]


def _wrapped(name: str) -> str:
    """Return a hole's path in lines short enough to stand over its axis."""
    parts, lines = name.split("."), [""]
    for part in parts:
        joined = f"{lines[-1]}.{part}" if lines[-1] else part
        if lines[-1] and len(joined) > 12:
            lines.append(part)
        else:
            lines[-1] = joined
    return "<br>".join(plain(line, 16) for line in lines[-4:])


def _colour(share: float) -> str:
    (_, one), (_, other) = (SCALE[0], SCALE[1]) if share < 0.5 else (SCALE[1], SCALE[2])
    part = share * 2 if share < 0.5 else share * 2 - 1
    mixed = [round(int(one[i : i + 2], 16) * (1 - part) + int(other[i : i + 2], 16) * part) for i in (1, 3, 5)]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)
