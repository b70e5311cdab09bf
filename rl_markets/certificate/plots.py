"""Pictures: plots as data drawn as inline SVG; the same data gives the same bytes."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from matplotlib import ticker
from matplotlib.figure import Figure

from rl_markets.envs.answer_key import Line, Plot

OURS = "#1f6feb"
ANSWER = "#24292f"
CONTROL = "#9a6700"

STYLES: dict[str, dict[str, Any]] = {
    "ours": {"color": OURS, "lw": 1.8},
    # Dashed and on top: where learned and known agree, both must be seen.
    "answer": {"color": ANSWER, "lw": 1.2, "ls": (0, (4, 3)), "zorder": 3},
    "control": {"color": CONTROL, "lw": 1.2},
    "third": {"color": "#2a9d4a", "lw": 1.2},
    "fourth": {"color": "#8e5bb5", "lw": 1.2},
    "fifth": {"color": "#c43c5e", "lw": 1.2},
    "points": {"color": OURS, "ls": "none", "marker": ".", "ms": 2, "alpha": 0.4},
}
"""Style of a line -> how matplotlib draws it."""

SETTINGS = {"svg.hashsalt": "rl-markets", "svg.fonttype": "none", "font.size": 9}
"""A salt of our own keeps the ids of an SVG the same from run to run."""


def svg(plot: Plot) -> str:
    """One pair of axes as inline SVG."""
    matplotlib.use("svg")
    with matplotlib.rc_context(SETTINGS):
        canvas = Figure(figsize=(4.4, 3.1), layout="constrained")
        axes = canvas.subplots()
        named = set[str]()
        for line in plot.lines:
            _draw(axes, line, named)
        axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
        _scale(axes, plot)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if len(named) > 1:
            axes.legend(frameon=False, markerscale=4)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _draw(axes: Any, line: Line, named: set[str]) -> None:
    """A curve, a cloud or a band; a kind that was named before is not named again."""
    kind = line.label.split(",")[0]
    style = STYLES[line.style]
    y = [float(value) for value in line.y]
    label = None if kind in named else kind
    if line.upper is not None:
        upper = [float(value) for value in line.upper]
        axes.fill_between(line.x, y, upper, label=label, color=style["color"], alpha=0.15, lw=0)
    else:
        axes.plot(line.x, y, label=label, **style)
    named.add(kind)


def _scale(axes: Any, plot: Plot) -> None:
    """Logarithmic axes with plain numbers; others not wilder than what they show."""
    if plot.log_x:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        subs = (1.0, 2.0, 3.0, 5.0) if high < 30 * low else (1.0, 3.0)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    if plot.log_y:
        minor = ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(1.2, 0.5))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(minor)
    else:
        _widen(axes)


def _widen(axes: Any) -> None:
    """At least a tenth of the level from bottom to top: what hardly moves must not look wild."""
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    least = 0.1 * max(abs(low), abs(high))
    if high - low < least:
        axes.set_ylim(middle - least / 2, middle + least / 2)
