"""The report: one self-contained HTML page with the certificate, pictures, and how the run was
made."""

from __future__ import annotations

import html
import io
import math
from typing import Any

from rl_markets.certificate import certify
from rl_markets.experiment import Experiment
from rl_markets.progress import short
from rl_markets.store import write_text
from rl_markets.training.run_folder import RunFolder, read_rows

OURS = "#1f6feb"
ANSWER = "#24292f"
CONTROL = "#9a6700"

_STYLE = """
:root { color-scheme: light; --line: #d0d7de; --soft: #57606a; \
--blue: #1f6feb; --green: #1a7f37; --red: #cf222e; }
body { font: 15px/1.5 system-ui, sans-serif; color: #24292f; \
max-width: 1080px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
.soft, .note { color: var(--soft); } .note { font-size: .82rem; }
.verdict { border-left: 5px solid var(--c);
  padding: .6rem 1rem; margin: 1.2rem 0; background: #f6f8fa; font-size: 1.05rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .38rem .55rem;
  text-align: right; vertical-align: top; }
td { white-space: nowrap; }
th { font-weight: 600; background: #f6f8fa; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 15rem; }
td.ours { font-weight: 600; color: var(--blue); }
.yes { color: var(--green); font-weight: 600; } .no { color: var(--red); font-weight: 600; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: .8rem; }
.grid svg { width: 100%; height: auto; }
pre { background: #f6f8fa; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; } \
details summary { cursor: pointer; }
"""


def write(run: RunFolder) -> None:
    """Writes `report.html` from the run's certificate and metrics."""
    certificate = certify.read(run.certificate)
    rows = read_rows(run)
    experiment = run.experiment
    body = [
        _head(experiment, certificate),
        _verdict(certificate),
        "<h2>Certificate</h2>" + _table(certificate),
        "<h2>Pictures</h2><div class='grid'>" + "".join(_pictures(certificate, rows)) + "</div>",
        "<h2>Where the time went</h2>" + _time(rows),
        "<h2>How this was made</h2>" + _making(run, experiment, certificate),
    ]
    title = html.escape(f"{experiment.name}: certificate")
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        "<meta name='viewport' content='width=device-width, "
        f"initial-scale=1'><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>"
    )
    write_text(run.report, page)


# -- words -----------------------------------------------------------------------------------------


def _head(experiment: Experiment, certificate: dict[str, Any]) -> str:
    market = experiment.market
    agents = f"{experiment.agents} agent{'s' * (experiment.agents > 1)}"
    line = (
        f"market {market.name}, {agents} in {market.worlds} worlds; "
        f"{experiment.algorithm.name}, {short(certificate['agent_steps'])} agent steps, seed "
        f"{experiment.seed}"
    )
    summary = f"<p>{html.escape(experiment.summary)}</p>" if experiment.summary else ""
    return (
        f"<h1>{html.escape(experiment.name)}</h1><div "
        f"class='soft'>{html.escape(line)}</div>{summary}"
    )


def verdict(certificate: dict[str, Any]) -> str:
    """The certificate in a sentence."""
    judged = [m for m in certificate["metrics"] if m["passed"] is not None]
    if not judged:
        return "No answer is known for this parameterisation: nothing was judged against limits."
    missed = [m for m in judged if not m["passed"]]
    if not missed:
        return (
            f"Certified: all {len(judged)} judged figures are within their limits of the "
            f"{certificate['answer']}."
        )
    names = "; ".join(
        f"{m['label']} {figure(m['value'])} {m['unit']} (limit {figure(m['limit'])})"
        for m in missed
    )
    count = f"{len(missed)} of {len(judged)} judged figures"
    return f"Not certified: {count} miss their limits against the {certificate['answer']}: {names}."


def _verdict(certificate: dict[str, Any]) -> str:
    color = {True: "var(--green)", False: "var(--red)", None: "var(--soft)"}[certificate["passed"]]
    return f"<div class='verdict' style='--c:{color}'>{html.escape(verdict(certificate))}</div>"


def figure(value: float | str | None) -> str:
    """A figure with three significant digits, from a thousand on in whole numbers; `NaN` stays
    itself."""
    if value is None:
        return ""
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if abs(number) < 5e-6:
        return "0"
    if 1e3 <= abs(number) < 1e9:
        return f"{number:,.0f}"
    return f"{number:.3g}" if abs(number) >= 1e-3 else f"{number:.1e}"


def _table(certificate: dict[str, Any]) -> str:
    controls = list(dict.fromkeys(name for m in certificate["metrics"] for name in m["controls"]))
    head = ["figure", "learned", "answer", "limit", "met", *controls]
    rows = []
    for m in certificate["metrics"]:
        label = f"{html.escape(m['label'])} <span class='soft'>{html.escape(m['unit'])}</span>"
        label += f"<div class='note'>{html.escape(m['note'])}</div>" if m["note"] else ""
        span = (
            f"<div class='note'>[{figure(m['low'])}, {figure(m['high'])}]</div>"
            if m["low"] is not None
            else ""
        )
        met = {True: "<span class='yes'>yes</span>", False: "<span class='no'>no</span>", None: ""}[
            m["passed"]
        ]
        cells = [
            figure(m["answer"]),
            figure(m["limit"]),
            met,
            *(figure(m["controls"].get(c)) for c in controls),
        ]
        rows.append(
            f"<tr><td>{label}</td><td class='ours'>{figure(m['value'])}{span}</td>"
            + "".join(f"<td>{c}</td>" for c in cells)
            + "</tr>"
        )
    head_cells = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    intervals = (
        f"<p class='note'>Intervals: 95 %, over {certificate['evaluation_seeds']} evaluation "
        "seeds. "
        "Controls: the same figure for policies that did not learn here.</p>"
    )
    return f"<div class='wide'><table><tr>{head_cells}</tr>{''.join(rows)}</table></div>{intervals}"


def _time(rows: list[dict[str, float]]) -> str:
    if not rows:
        return "<p>No iteration was logged.</p>"
    shares = {
        name: sum(r[f"{name}_share"] for r in rows) / len(rows)
        for name in ("market", "policy", "learner", "framework")
    }
    words = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    last = rows[-1]
    speed = last["agent_steps"] / last["seconds"]
    return (
        f"<p>{last['seconds']:.0f} s of training, {short(speed)} agent steps per second: "
        f"{words}.</p>"
    )


def _making(run: RunFolder, experiment: Experiment, certificate: dict[str, Any]) -> str:
    made = certificate["made_with"]
    with_ = (
        f"rl-markets {made['rl_markets']}, torch {made['torch']}, Python {made['python']}, "
        f"{made['machine']}"
    )
    text = html.escape(run.experiment_file.read_text(encoding="utf-8"))
    return (
        f"<pre>rl-markets train experiment.yaml   # the file below; seed {experiment.seed}</pre>"
        f"<p class='soft'>{html.escape(with_)}</p>"
        "<details><summary>experiment.yaml (sha256 "
        f"{certificate['digest'][:12]})</summary><pre>{text}</pre></details>"
    )


# -- pictures --------------------------------------------------------------------------------------


def _pictures(certificate: dict[str, Any], rows: list[dict[str, float]]) -> list[str]:
    figures = [f for f in (_learning_curve(rows, certificate),) if f is not None]
    return [svg(f) for f in [*figures, *certificate["figures"]]]


def _learning_curve(
    rows: list[dict[str, float]], certificate: dict[str, Any]
) -> dict[str, Any] | None:
    looked = [r for r in rows if math.isfinite(r["distance"])]
    if not looked:
        looked = [r for r in rows if math.isfinite(r["episode_return"])]
        label = "return per agent"
        key = "episode_return"
        log = False
    else:
        label = f"% from the {certificate['answer']}"
        key = "distance"
        log = True
    if len(looked) < 2:
        return None
    line = {
        "label": "learned",
        "style": "ours",
        "x": [r["agent_steps"] for r in looked],
        "y": [r[key] for r in looked],
    }
    return {
        "title": "Learning",
        "x_label": "agent steps",
        "y_label": label,
        "log_x": False,
        "log_y": log,
        "lines": [line],
    }


STYLES: dict[str, dict[str, Any]] = {
    "ours": {"color": OURS, "lw": 1.8},
    "answer": {
        "color": ANSWER,
        "lw": 1.2,
        "ls": (0, (4, 3)),
        "zorder": 3,
    },  # on top: both must be seen
    "control": {"color": CONTROL, "lw": 1.2},
    "third": {"color": "#2a9d4a", "lw": 1.2},
    "fourth": {"color": "#8e5bb5", "lw": 1.2},
    "fifth": {"color": "#c43c5e", "lw": 1.2},
    "points": {"color": OURS, "ls": "none", "marker": ".", "ms": 2, "alpha": 0.4},
}


def svg(spec: dict[str, Any]) -> str:
    """One pair of axes as inline SVG; the same data gives the same bytes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(
        {"svg.hashsalt": "rl-markets", "svg.fonttype": "none", "font.size": 9}
    ):
        canvas = Canvas(figsize=(4.4, 3.1), layout="constrained")
        axes = canvas.subplots()
        seen = set[str]()
        for line in spec["lines"]:
            _draw(axes, line, seen)
        axes.set(title=spec["title"], xlabel=spec["x_label"], ylabel=spec["y_label"])
        _scale(axes, spec)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if len(seen) > 1:
            axes.legend(frameon=False, markerscale=4)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _draw(axes: Any, line: dict[str, Any], seen: set[str]) -> None:
    """A curve, a cloud or a band; kinds that were seen are not named again."""
    kind = line["label"].split(",")[0]
    style = STYLES[line["style"]]
    y = [float(v) for v in line["y"]]
    label = None if kind in seen else kind
    if "upper" in line:
        upper = [float(v) for v in line["upper"]]
        axes.fill_between(line["x"], y, upper, label=label, color=style["color"], alpha=0.15, lw=0)
    else:
        axes.plot(line["x"], y, label=label, **style)
    seen.add(kind)


def _scale(axes: Any, spec: dict[str, Any]) -> None:
    """Logarithmic axes with plain numbers; others not wilder than what they show."""
    from matplotlib import ticker

    if spec["log_x"]:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        subs = (1.0, 2.0, 3.0, 5.0) if high < 30 * low else (1.0, 3.0)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    if spec["log_y"]:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(
            ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(1.2, 0.5))
        )
    else:
        _widen(axes)


def _widen(axes: Any) -> None:
    """At least a tenth of the level from bottom to top, so that what hardly moves does not look
    wild."""
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    least = 0.1 * max(abs(low), abs(high))
    if high - low < least:
        axes.set_ylim(middle - least / 2, middle + least / 2)


def summary_rows(certificate: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The judged figures as (label, figure, limit, met) for the terminal."""
    met = {True: "yes", False: "no"}
    return [
        (m["label"], f"{figure(m['value'])} {m['unit']}", figure(m["limit"]), met[m["passed"]])
        for m in certificate["metrics"]
        if m["passed"] is not None
    ]
