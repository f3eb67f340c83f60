"""The report's figures as Plotly data; names are escaped, since Plotly reads markup in every text."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go

from experiments.report.depth import Curve
from experiments.report.importance import Importances
from experiments.report.study_facts import Scoring
from search.results.verdict import FrontPoint, Masks

PALETTE = ("#0b7a75", "#d1603d", "#5b6abf", "#b8860b", "#8e4585", "#4d8b31", "#3f88c5", "#a3333d")
"""One colour per family or curve, distinct on white and on dark grey."""
_SYMBOLS = {"complete": "circle", "stopped": "triangle-down-open", "failed": "x-thin-open"}


def plain(text: object, width: int = 60) -> str:
    """Return a text that Plotly shows as it is, cut where it is long."""
    line = " ".join(str(text).split())
    return html.escape(line if len(line) <= width else f"{line[: width - 1]}…", quote=True)


def history(trials: Sequence[Scoring], baselines: Sequence[Scoring], asked: int) -> go.Figure | None:
    """Return objective by trial: families by colour, the best so far as a line.

    Stopped and failed trials are drawn on a line below the scores: a stopped trial's mean over the questions it
    answered is no score on all of them.
    """
    if not trials:
        return None
    figure = go.Figure()
    full = [scoring for scoring in trials if scoring.record.state == "complete"]
    if full:
        figure.add_trace(_best_so_far(full, trials[-1].record.number))
    best = max(baselines, key=lambda scoring: scoring.record.metrics["objective"], default=None)
    values = [scoring.record.metrics["objective"] for scoring in (*full, *([best] if best else []))]
    low, high = min(values, default=0.0), max(values, default=1.0)
    rail = low - max(0.3 * (high - low), 0.002)
    for index, family in enumerate(dict.fromkeys(scoring.record.family for scoring in trials)):
        for state, symbol in _SYMBOLS.items():
            chosen = [e for e in trials if e.record.family == family and e.record.state == state]
            if not chosen:
                continue
            figure.add_trace(
                go.Scatter(
                    x=[e.record.number for e in chosen],
                    y=[e.record.metrics["objective"] if state == "complete" else rail for e in chosen],
                    text=[about(e, asked) for e in chosen],
                    hoverinfo="text",
                    mode="markers",
                    name=plain(family) if state == "complete" else f"{plain(family)}, {state}",
                    marker={
                        "symbol": symbol,
                        "size": 9,
                        "opacity": 0.9,
                        "color": PALETTE[index % len(PALETTE)],
                        "line": {"width": 1.5, "color": PALETTE[index % len(PALETTE)]},
                    },
                )
            )
    if any(scoring.record.state != "complete" for scoring in trials):
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=rail, yanchor="bottom", yshift=4, showarrow=False,
            text="stopped or failed: no full score", font={"size": 11},
        )  # fmt: skip
    if best is not None:
        level = best.record.metrics["objective"]
        figure.add_hline(y=level, line={"dash": "dot", "width": 1.5, "color": "#8a94a6"})
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=level, yanchor="top", showarrow=False,
            text=f"best baseline: {plain(best.record.name, 30)}",
        )  # fmt: skip
    if len(trials) <= 10:
        figure.update_xaxes(dtick=1)
    return styled(figure, "trial", "objective on search questions", 400)


def _best_so_far(full: Sequence[Scoring], last: int) -> go.Scatter:
    x, y, best = [], [], -math.inf
    for scoring in full:
        best = max(best, scoring.record.metrics["objective"])
        x.append(scoring.record.number)
        y.append(best)
    line = {"shape": "hv", "width": 2, "color": "#f2a541"}
    return go.Scatter(x=[*x, last], y=[*y, best], mode="lines", name="best so far", line=line, hoverinfo="skip")


def about(scoring: Scoring, asked: int) -> str:
    """Return the text shown when a trial's mark is pointed at."""
    record = scoring.record
    lines = [f"{record.name} · {record.family} · {record.state}"]
    if "objective" in record.metrics:
        lines.append(f"objective {record.metrics['objective']:.4f} on {scoring.asked} of {asked} questions")
    if record.state == "failed" and record.reason:
        lines.append(record.reason)
    lines += [f"{name} = {shown(value)}" for name, value in list(record.params.items())[:12]]
    return "<br>".join(plain(line, 90) for line in lines)


def importance_bars(found: Importances) -> go.Figure:
    """Return one bar per hole, the most important on top."""
    shares = list(found.shares.items())[:20][::-1]
    figure = go.Figure(
        go.Bar(
            x=[share for _, share in shares],
            y=[plain(name, 34) for name, _ in shares],
            text=[f"{share:.0%}" for _, share in shares],
            textposition="auto",
            orientation="h",
            marker={"color": PALETTE[0]},
            hoverinfo="skip",
        )
    )
    figure.update_xaxes(range=[0, max(share for _, share in shares) * 1.05], tickformat=".0%")
    return styled(figure, "share of the objective's variance", "", 110 + 30 * len(shares))


def over_depth(found: Sequence[Curve], parameter: str, *, layers: bool) -> go.Figure:
    """Return one parameter from the first layer to the last."""
    figure = go.Figure()
    for index, curve in enumerate(curve for curve in found if curve.parameter == parameter):
        figure.add_trace(
            go.Scatter(
                x=curve.depth,
                y=curve.values,
                mode="lines",
                name=plain(curve.label, 40),
                line={
                    "width": 2.5,
                    "color": PALETTE[index % len(PALETTE)],
                    "dash": ("solid", "dash", "dot")[index // len(PALETTE) % 3],
                },
            )
        )
    figure = styled(figure, "layer" if layers else "depth, first layer 0 to last layer 1", plain(parameter), 300)
    figure.update_layout(showlegend=True)
    figure.update_yaxes(rangemode="tozero")
    return figure


def front_points(points: Sequence[FrontPoint], full: Iterable[Scoring], winner: str) -> go.Figure | None:
    """Return the Pareto front over its first two scores, with every fully scored trial behind it."""
    names = list(points[0].scores)
    if len(names) < 2:
        return None
    x, y = names[:2]
    rest = [e.record for e in full if x in e.record.metrics and y in e.record.metrics]
    figure = go.Figure(
        go.Scatter(
            x=[r.metrics[x] for r in rest], y=[r.metrics[y] for r in rest], mode="markers", name="fully scored trials",
            text=[plain(r.name) for r in rest], hoverinfo="text+x+y", marker={"color": "#8a94a6", "opacity": 0.6},
        )
    )  # fmt: skip
    ordered = sorted(points, key=lambda point: point.scores[x])
    figure.add_trace(
        go.Scatter(
            x=[p.scores[x] for p in ordered], y=[p.scores[y] for p in ordered], mode="lines+markers+text", name="front",
            text=[plain(p.name, 18) for p in ordered], textposition="top center", hoverinfo="text+x+y",
            line={"shape": "linear", "dash": "dot", "color": PALETTE[1]},
            marker={"size": [15 if p.name == winner else 9 for p in ordered], "color": PALETTE[1]},
        )
    )  # fmt: skip
    return styled(figure, plain(x), plain(y), 400)


def mask_values(masks: Masks, own: float, opponent: tuple[str, float]) -> go.Figure:
    """Return the test objective with every random mask, against the best parent."""
    figure = go.Figure(
        go.Scatter(
            x=list(masks.values), y=["other masks"] * len(masks.values), mode="markers", name="other masks",
            marker={"size": 11, "opacity": 0.7, "color": PALETTE[2]}, text=[f"seed {seed}" for seed in masks.seeds],
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[own], y=["winner's own"], mode="markers", name="winner's own",
            marker={"size": 13, "symbol": "diamond", "color": PALETTE[1]},
        )
    )  # fmt: skip
    figure.add_vline(x=opponent[1], line={"dash": "dot", "width": 1.5, "color": "#8a94a6"})
    figure.add_annotation(
        x=opponent[1], y=1, yref="paper", yanchor="bottom", showarrow=False, text=plain(opponent[0], 30)
    )
    figure.update_layout(showlegend=False)
    return styled(figure, "objective on test questions", "", 220, top=40)


def intervals(rows: Mapping[str, Mapping[str, tuple[float, float, float]]], title: str) -> go.Figure:
    """Return differences with their intervals, one row per name, one sign per series.

    Args:
        rows: Series to name to estimate, low and high.
        title: What the axis measures.
    """
    figure = go.Figure()
    names = list(dict.fromkeys(name for points in rows.values() for name in points))
    for index, (series, points) in enumerate(rows.items()):
        estimates = [estimate for estimate, _, _ in points.values()]
        offset = (index + 0.5) / len(rows) - 0.5
        figure.add_trace(
            go.Scatter(
                x=estimates,
                y=[names.index(name) + 0.7 * offset for name in points],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - estimate for estimate, _, high in points.values()],
                    "arrayminus": [estimate - low for estimate, low, _ in points.values()],
                },
                mode="markers",
                name=plain(series, 40),
                text=[
                    f"{plain(name, 60)}<br>{plain(series)}: {e:+.4f} [{low:+.4f}, {high:+.4f}]"
                    for name, (e, low, high) in points.items()
                ],
                hoverinfo="text",
                marker={"size": 9, "color": PALETTE[index % len(PALETTE)]},
            )
        )
    figure.add_vline(x=0, line={"width": 1.5, "color": "#8a94a6"})
    figure.update_layout(showlegend=True)
    figure.update_yaxes(
        range=[len(names) - 0.5, -0.5], tickvals=list(range(len(names))), ticktext=[plain(n, 44) for n in names]
    )
    return styled(figure, title, "", 130 + (24 + 14 * len(rows)) * len(names))


def on_paper(figure: go.Figure) -> go.Figure:
    """Return a figure with a background of its own, for a page that may be dark, such as MLflow's."""
    return figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", font={"color": "#3c4658"})


def shown(value: object) -> str:
    """Return a value in a few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def styled(figure: go.Figure, x: str, y: str, height: int, *, top: int = 16) -> go.Figure:
    """Return a figure without a background, its legend below, so that it fits both schemes and a phone."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        height=height,
        margin={"l": 8, "r": 8, "t": top, "b": 8},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "xanchor": "left"},
        hoverlabel={"align": "left"},
        dragmode=False,
    )
    figure.update_xaxes(title={"text": x} if x else None, automargin=True, zeroline=False)
    figure.update_yaxes(title={"text": y} if y else None, automargin=True, zeroline=False)
    return figure
