"""The report: one self-contained HTML page with certificate, pictures, and how it was made."""

from __future__ import annotations

import html
import math

from rl_markets.certificate.document import Certificate
from rl_markets.certificate.plots import svg
from rl_markets.certificate.tables import shown, verdict
from rl_markets.envs.answer_key import Line, Metric, Plot
from rl_markets.experiment import Experiment
from rl_markets.progress import console, short
from rl_markets.store import write_text
from rl_markets.training.metrics import Row
from rl_markets.training.metrics_log import read_rows
from rl_markets.training.run_folder import RunFolder

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

MET = {
    True: "<span class='yes'>yes</span>",
    False: "<span class='no'>no</span>",
    None: "",
}
COLOR = {True: "var(--green)", False: "var(--red)", None: "var(--soft)"}


def write(run: RunFolder, certificate: Certificate) -> None:
    """Writes `report.html` from the run's certificate and metrics."""
    rows = read_rows(run, lambda line: console().print(line))
    experiment = run.experiment
    body = [
        _head(experiment, certificate, _agents(rows)),
        _verdict(certificate),
        "<h2>Certificate</h2>" + _table(certificate),
        "<h2>Pictures</h2><div class='grid'>" + "".join(_pictures(certificate, rows)) + "</div>",
        "<h2>Where the time went</h2>" + _time(rows),
        "<h2>How this was made</h2>" + _making(run, experiment, certificate),
    ]
    write_text(run.report, _page(f"{experiment.name}: certificate", "".join(body)))


def _page(title: str, body: str) -> str:
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{html.escape(title)}</title>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<style>{_STYLE}</style></head><body>{body}</body></html>",
    ]
    return "".join(parts)


# -- words -----------------------------------------------------------------------------------------


def _agents(rows: list[Row]) -> int:
    """Agents of a world, from what was sampled: the market is not asked, which may run code."""
    return round(rows[-1]["agent_steps"] / rows[-1]["env_steps"]) if rows else 0


def _head(experiment: Experiment, certificate: Certificate, count: int) -> str:
    market = experiment.market
    agents = f"{count} agent{'s' * (count > 1)}"
    steps = f"{short(certificate.agent_steps)} agent steps"
    line = (
        f"market {market.name}, {agents} in {market.worlds} worlds; "
        f"{experiment.algorithm.name}, {steps}, seed {experiment.seed}"
    )
    parts = [
        f"<h1>{html.escape(experiment.name)}</h1>",
        f"<div class='soft'>{html.escape(line)}</div>",
        f"<p>{html.escape(experiment.summary)}</p>" if experiment.summary else "",
    ]
    return "".join(parts)


def _verdict(certificate: Certificate) -> str:
    color = COLOR[certificate.passed]
    text = html.escape(verdict(certificate))
    return f"<div class='verdict' style='--c:{color}'>{text}</div>"


def _table(certificate: Certificate) -> str:
    controls = list(dict.fromkeys(name for m in certificate.metrics for name in m.controls))
    head = ["figure", "learned", "answer", "limit", "met", *controls]
    head_cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    rows = "".join(_row(metric, controls) for metric in certificate.metrics)
    intervals = (
        f"<p class='note'>Intervals: 95 %, over {certificate.evaluation_seeds} evaluation seeds. "
        "Controls: the same figure for policies that did not learn here.</p>"
    )
    return f"<div class='wide'><table><tr>{head_cells}</tr>{rows}</table></div>{intervals}"


def _row(metric: Metric, controls: list[str]) -> str:
    m = metric
    label = f"{html.escape(m.label)} <span class='soft'>{html.escape(m.unit)}</span>"
    if m.who:
        label += f"<div class='note'><b>{html.escape(m.who)}</b></div>"
    if m.note:
        label += f"<div class='note'>{html.escape(m.note)}</div>"
    learned = shown(m.value)
    if m.low is not None:
        learned += f"<div class='note'>[{shown(m.low)}, {shown(m.high)}]</div>"
    met = MET[m.passed] if m.examined else "?"
    cells = [shown(m.answer), shown(m.limit), met]
    cells += [shown(m.controls.get(control)) for control in controls]
    others = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><td>{label}</td><td class='ours'>{learned}</td>{others}</tr>"


def _time(rows: list[Row]) -> str:
    if not rows:
        return "<p>No iteration was logged.</p>"
    shares = {
        name: sum(row[f"{name}_share"] for row in rows) / len(rows)
        for name in ("market", "policy", "learner", "framework")
    }
    words = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    seconds = rows[-1]["seconds"]
    speed = short(rows[-1]["agent_steps"] / seconds)
    return f"<p>{seconds:.0f} s of training, {speed} agent steps per second: {words}.</p>"


def _making(run: RunFolder, experiment: Experiment, certificate: Certificate) -> str:
    made = certificate.made_with
    versions = f"rl-markets {made.rl_markets}, torch {made.torch}, Python {made.python}"
    file = html.escape(run.experiment_file.read_text(encoding="utf-8"))
    summary = f"experiment.yaml (sha256 {certificate.digest[:12]})"
    parts = [
        f"<pre>rl-markets train experiment.yaml   # the file below; seed {experiment.seed}</pre>",
        f"<p class='soft'>{html.escape(f'{versions}, {made.machine}')}</p>",
        f"<details><summary>{summary}</summary><pre>{file}</pre></details>",
    ]
    return "".join(parts)


# -- pictures --------------------------------------------------------------------------------------


def _pictures(certificate: Certificate, rows: list[Row]) -> list[str]:
    learning = _learning_curve(rows, certificate)
    plots = certificate.plots if learning is None else [learning, *certificate.plots]
    return [svg(plot) for plot in plots]


def _learning_curve(rows: list[Row], certificate: Certificate) -> Plot | None:
    """The distance from the answer against agent steps; returns where no answer is known."""
    name = "distance"
    label = f"% from the {certificate.answer}"
    looked = [row for row in rows if math.isfinite(row[name])]
    if not looked:
        name = "episode_return"
        label = "return per agent"
        looked = [row for row in rows if math.isfinite(row[name])]
    if len(looked) < 2:
        return None
    steps = [row["agent_steps"] for row in looked]
    line = Line("learned", steps, [row[name] for row in looked], "ours")
    return Plot("Learning", "agent steps", label, [line], log_y=name == "distance")
