"""The pages made from what was measured: the table of the README, and `households.md` with every
judged figure.

A test compares them with the JSON.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.results.documents import COMPARISON, middle, read
from benchmarks.results.plan import EXPERIMENTS, FULL_DEPRECIATION, LEARNERS, RBC
from rl_markets.certificate.plots import svg
from rl_markets.certificate.tables import shown
from rl_markets.envs.answer_key import Line, Plot
from rl_markets.store import write_text

BEGIN = "<!-- results: made by `make results` -->"
END = "<!-- end of results -->"
ECONOMIES = (FULL_DEPRECIATION, RBC)
STYLES = ("ours", "control", "third", "fourth", "fifth")
"""Of the learners' lines, in their order."""
SIMPLE = ("constant actions", "constant share", "equal shares")
"""Controls that are a simple rule."""
PAGE = "households.md"


def write(folder: Path) -> None:
    """Curves and page, from the documents in `folder`."""
    for economy in ECONOMIES:
        write_text(folder / f"{economy}-curves.svg", svg(curves(folder, economy)))
    for what, label in (
        ("error", "error of the worse action, %"),
        ("training_seconds", "seconds of training"),
    ):
        write_text(
            folder / f"{COMPARISON}-{what.split('_')[-1]}.svg",
            svg(by_size(folder, what, label)),
        )
    write_text(folder / PAGE, page(folder))


def fill_readme(folder: Path, readme: Path) -> None:
    """Puts the table between the markers of a README."""
    put(readme, BEGIN, table(folder), END)


def put(path: Path, begin: str, text: str, end: str) -> None:
    """Puts `text` between two markers of a file."""
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    write_text(path, f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


def curves(folder: Path, economy: str) -> Plot:
    """Every learner's distance from one economy's answer against agent steps, as a plot of the
    report."""
    lines = []
    for (suffix, label), style in zip(LEARNERS.items(), STYLES, strict=True):
        for seed in read(folder, f"{economy}{suffix}")["seeds"]:
            steps, _, y = zip(*seed["curve"], strict=True)
            x = [n / 1e6 for n in steps]
            lines.append(Line(f"{label}, seed {seed['seed']}", x, list(y), style))
    y_label = "distance from the answer, %"
    return Plot(economy, "agent steps, millions", y_label, lines, log_y=True)


def by_size(folder: Path, what: str, label: str) -> Plot:
    """A plot of every learner against the number of households, a line for each seed."""
    rows = read(folder, COMPARISON)["rows"]
    lines = []
    for learner, style in zip(LEARNERS.values(), STYLES, strict=False):
        for i in range(max(len(row["seeds"]) for row in rows)):
            mine = [row for row in rows if row["learner"] == learner and i < len(row["seeds"])]
            seeds = [row["seeds"][i] for row in mine]
            y = [_error(seed) if what == "error" else seed[what] for seed in seeds]
            lines.append(Line(f"{learner}, seed {i}", [r["households"] for r in mine], y, style))
    title = f"{RBC}, by number of households"
    return Plot(title, "households n", label, lines, log_x=True, log_y=True)


def _error(seed: dict[str, float]) -> float:
    return max(seed["share_error"], seed["labour_error"])


def comparison(folder: Path) -> list[str]:
    """The table of learners by number of households."""
    head = (
        "n",
        "learner",
        "policy error, %",
        "discounted return",
        "best",
        "agent steps",
        "training, s",
        "memory, MiB",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in read(folder, COMPARISON)["rows"]:
        seeds = row["seeds"]
        cells = [
            f"{row['households']:,}",
            row["learner"],
            spread([_error(seed) for seed in seeds]),
            _returns([seed["return"] for seed in seeds]),
            f"{seeds[0]['best_return']:.3f}",
            f"{seeds[0]['agent_steps']:,.0f}",
            spread([seed["training_seconds"] for seed in seeds]),
            f"{middle([seed['peak_mib'] for seed in seeds]):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _returns(values: list[float]) -> str:
    return f"{middle(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def table(folder: Path) -> str:
    """A row for each experiment: the largest of its mean policy errors and its best-response gain,
    median over seeds."""
    head = (
        "experiment",
        "seeds certified",
        "policy error, %",
        "a simple rule's",
        "untrained",
        "best-response gain, %",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in EXPERIMENTS:
        seeds = read(folder, name)["seeds"]
        errors = [max(_policy_errors(seed), key=lambda m: float(m["value"])) for seed in seeds]
        gains = [_gain(seed) for seed in seeds]
        cells = [
            f"`{name}`",
            f"{sum(bool(seed['passed']) for seed in seeds)} of {len(seeds)}",
            spread([float(m["value"]) for m in errors]),
            _control(errors[0], SIMPLE),
            _control(errors[0], ("untrained network",)),
            spread(gains),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gain(seed: dict[str, Any]) -> float:
    """The largest best-response gain that is judged; NaN where there is none."""
    judged = [
        m
        for n, m in seed["metrics"].items()
        if n.startswith("best_response_gain/") and m["limit"] is not None
    ]
    return max((float(m["value"]) for m in judged), default=math.nan)


def _policy_errors(seed: dict[str, Any]) -> list[dict[str, Any]]:
    """The mean errors that are judged."""
    return [
        m
        for n, m in seed["metrics"].items()
        if n.startswith("policy_error/") and m["limit"] is not None
    ]


def made_by(document: dict[str, Any]) -> str:
    """What made a document, as a sentence."""
    made = document["made_with"]
    return (
        f"Made by `make results` with rl-markets {made['rl_markets']}, torch {made['torch']}, "
        f"Python {made['python']}, "
        f"{made['machine']}."
    )


def opening(name: str, document: dict[str, Any], seconds: str, unit: str) -> list[str]:
    """How the section of an experiment begins: its command, seeds and sizes; `seconds` names the
    time that is told."""
    seeds = document["seeds"]
    return [
        "",
        f"## {name}",
        "",
        f"`{document['command']}`, seeds {', '.join(str(seed['seed']) for seed in seeds)}; "
        f"{document['agent_steps']:,} agent steps, "
        f"{spread([float(seed[seconds]) for seed in seeds])} {unit}.",
        "",
    ]


def pictures(folder: Path, name: str) -> list[str]:
    """How the section of an experiment ends."""
    return ["", *(f"![{p.stem}]({p.name})" for p in sorted(folder.glob(f"{name}-picture-*.svg")))]


def labelled(metric: dict[str, Any]) -> str:
    """A figure's label, with its unit."""
    return f"{metric['label']}, {metric['unit']}" if metric["unit"] else str(metric["label"])


def page(folder: Path) -> str:
    """All judged figures of all experiments as Markdown, with commands, seeds and the machine."""
    lines = [
        "# Households, unemployment risk and taxes: what was learned, beside what is known",
        "",
        f"{made_by(read(folder, EXPERIMENTS[0]))} Each figure is the median over the seeds, with "
        "their range; seconds are those "
        "of training by the clock, with other work on the machine. *Simple rule* is the best "
        "constant one, *untrained* the same "
        "network before training, which must fail.",
    ]
    for name in EXPERIMENTS:
        found = read(folder, name)
        lines += [
            *opening(name, found, "seconds", "s"),
            "| figure | learned | answer | limit | simple rule | log-linear | untrained |",
            "|---|---|---|---|---|---|---|",
        ]
        for key, first in found["seeds"][0]["metrics"].items():
            if first["limit"] is not None or first["answer"] not in (None, 0.0):
                lines.append(_row([seed["metrics"][key] for seed in found["seeds"]]))
        lines += pictures(folder, name)
    return "\n".join([*lines, *_by_size_section(folder)]) + "\n"


def _by_size_section(folder: Path) -> list[str]:
    return [
        "",
        "## The learners by number of households",
        "",
        "The economy of `households-rbc` with n households in as many worlds as make about 1,280 "
        "agents together (10,000 are a "
        "single world). Each learner has its own recipe and half a minute to a minute; "
        "*policy error* is the larger of both actions' mean errors, "
        "*best* the optimum's return on the same shocks. Returns tell little: see the README. "
        "Commands are in "
        f"[{COMPARISON}.json]({COMPARISON}.json).",
        "",
        *comparison(folder),
        "",
        *(f"![{path.stem}]({path.name})" for path in sorted(folder.glob(f"{COMPARISON}-*.svg"))),
    ]


def spread(values: list[float]) -> str:
    """The median, and the range, as text."""
    return f"**{shown(middle(values))}** ({shown(min(values))} to {shown(max(values))})"


def _control(metric: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((shown(metric["controls"][n]) for n in names if n in metric["controls"]), "")


def _row(metrics: list[dict[str, Any]]) -> str:
    first = metrics[0]
    controls = [
        _control(first, names) for names in (SIMPLE, ("log-linear",), ("untrained network",))
    ]
    cells = [
        labelled(first),
        spread([float(m["value"]) for m in metrics]),
        shown(first["answer"]),
        shown(first["limit"]),
    ]
    return "| " + " | ".join([*cells, *controls]) + " |"
