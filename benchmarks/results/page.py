"""The pages made from what was measured: `households.md` with every judged value, the overview.

A test compares them with the JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results.documents import COMPARISON, by_metric, middle, of_seeds, read
from benchmarks.results.plan import EXPERIMENTS, FULL_DEPRECIATION, LEARNERS, RBC
from rl_markets.certificate.plots import svg
from rl_markets.certificate.tables import shown
from rl_markets.envs.answer_key import Line, Plot
from rl_markets.store import write_text

BEGIN = "<!-- results: made by `make results` -->"
END = "<!-- end of results -->"
OVERVIEW = "README.md"
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
    labels = {"error": "error of the worse action, %", "training_seconds": "seconds of training"}
    for what, label in labels.items():
        file = f"{COMPARISON}-{what.split('_')[-1]}.svg"
        write_text(folder / file, svg(by_size(folder, what, label)))
    write_text(folder / PAGE, page(folder))


def fill_overview(folder: Path) -> None:
    """Puts the table between the markers of the folder's overview."""
    put(folder / OVERVIEW, BEGIN, table(folder), END)


def put(path: Path, begin: str, text: str, end: str) -> None:
    """Puts `text` between two markers of a file."""
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    write_text(path, f"{before}{begin}\n{text}\n{end}{after}")


def markdown_row(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown_head(titles: Sequence[str]) -> list[str]:
    """The first two lines of a Markdown table."""
    return [markdown_row(titles), "|---" * len(titles) + "|"]


def curves(folder: Path, economy: str) -> Plot:
    """Every learner's distance from one economy's answer against agent steps, a line for a seed."""
    lines = []
    for (suffix, label), style in zip(LEARNERS.items(), STYLES, strict=True):
        for seed in read(folder, f"{economy}{suffix}")["seeds"]:
            steps, _, distances = zip(*seed["curve"], strict=True)
            millions = [n / 1e6 for n in steps]
            lines.append(Line(f"{label}, seed {seed['seed']}", millions, list(distances), style))
    y_label = "distance from the answer, %"
    return Plot(economy, "agent steps, millions", y_label, lines, log_y=True)


def by_size(folder: Path, what: str, label: str) -> Plot:
    """A plot of every learner against the number of households, a line for each seed."""
    rows = read(folder, COMPARISON)["rows"]
    lines = []
    for learner, style in zip(LEARNERS.values(), STYLES, strict=False):
        for i in range(max(len(row["seeds"]) for row in rows)):
            # the largest economy has the first seed only
            sizes = [row for row in rows if row["learner"] == learner and i < len(row["seeds"])]
            households = [row["households"] for row in sizes]
            seeds = [row["seeds"][i] for row in sizes]
            values = [_error(seed) if what == "error" else seed[what] for seed in seeds]
            lines.append(Line(f"{learner}, seed {i}", households, values, style))
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
    lines = markdown_head(head)
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
        lines.append(markdown_row(cells))
    return lines


def _returns(values: list[float]) -> str:
    return f"{middle(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def table(folder: Path) -> str:
    """A row for each experiment: its largest mean policy error and its best-response gain.

    Both are medians over the seeds.
    """
    head = (
        "experiment",
        "seeds certified",
        "policy error, %",
        "a simple rule's",
        "untrained",
        "best-response gain, %",
    )
    lines = markdown_head(head)
    for name in EXPERIMENTS:
        seeds = read(folder, name)["seeds"]
        errors = [max(_policy_errors(seed), key=lambda m: float(m["value"])) for seed in seeds]
        gains = [_gain(seed) for seed in seeds]
        passed = sum(bool(seed["passed"]) for seed in seeds)
        cells = [
            f"`{name}`",
            f"{passed} of {len(seeds)}",
            spread([float(m["value"]) for m in errors]),
            _control(errors[0], SIMPLE),
            _control(errors[0], ("untrained network",)),
            spread(gains),
        ]
        lines.append(markdown_row(cells))
    return "\n".join(lines)


def _gain(seed: dict[str, Any]) -> float:
    """The largest best-response gain that is judged; NaN where there is none."""
    gains = (float(metric["value"]) for metric in _judged(seed, "best_response_gain/"))
    return max(gains, default=math.nan)


def _policy_errors(seed: dict[str, Any]) -> list[dict[str, Any]]:
    """The mean errors that are judged."""
    return _judged(seed, "policy_error/")


def _judged(seed: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    """The metrics whose names begin with `prefix` and that have a limit."""
    metrics: dict[str, dict[str, Any]] = seed["metrics"]
    return [m for n, m in metrics.items() if n.startswith(prefix) and m["limit"] is not None]


def made_by(document: dict[str, Any]) -> str:
    """What made a document, as a sentence."""
    made = document["made_with"]
    return (
        f"Made by `make results` with rl-markets {made['rl_markets']}, torch {made['torch']}, "
        f"Python {made['python']}, {made['machine']}."
    )


def opening(name: str, document: dict[str, Any], seconds: str, unit: str) -> list[str]:
    """How the section of an experiment begins: its command, seeds and sizes.

    `seconds` names the entry of a seed that is told as its time, in `unit`.
    """
    seeds = document["seeds"]
    numbers = ", ".join(str(seed["seed"]) for seed in seeds)
    times = [float(seed[seconds]) for seed in seeds]
    facts = (
        f"`{document['command']}`, seeds {numbers}; "
        f"{document['agent_steps']:,} agent steps, {spread(times)} {unit}."
    )
    return ["", f"## {name}", "", facts, ""]


def pictures(folder: Path, name: str) -> list[str]:
    """How the section of an experiment ends."""
    return ["", *(f"![{p.stem}]({p.name})" for p in sorted(folder.glob(f"{name}-picture-*.svg")))]


def labelled(metric: dict[str, Any]) -> str:
    """A metric's label, with its unit."""
    return f"{metric['label']}, {metric['unit']}" if metric["unit"] else str(metric["label"])


def page(folder: Path) -> str:
    """All judged values of all experiments as Markdown, with commands, seeds and the machine."""
    lines = [
        "# Households, unemployment risk and taxes: what was learned, beside what is known",
        "",
        f"{made_by(read(folder, EXPERIMENTS[0]))} "
        "Each figure is the median over the seeds, with their range; "
        "seconds are those of training by the clock, with other work on the machine. "
        "*Simple rule* is the best constant one, "
        "*untrained* the same network before training, which must fail.",
    ]
    head = ("figure", "learned", "answer", "limit", "simple rule", "log-linear", "untrained")
    for name in EXPERIMENTS:
        document = read(folder, name)
        lines += opening(name, document, "seconds", "s")
        lines += markdown_head(head)
        for metrics in by_metric(document["seeds"]):
            # an answer of 0 is that of errors and gains, of which only the judged are shown
            if metrics[0]["limit"] is not None or metrics[0]["answer"] not in (None, 0.0):
                lines.append(_row(metrics, of_seeds(metrics, document["seeds"])))
        lines += pictures(folder, name)
    return "\n".join([*lines, *_by_size_section(folder)]) + "\n"


def _by_size_section(folder: Path) -> list[str]:
    return [
        "",
        "## The learners by number of households",
        "",
        "The economy of `households-rbc` with n households "
        "in as many worlds as make about 1,280 agents together (10,000 are a single world). "
        "Each learner has its own recipe and half a minute to a minute; "
        "*policy error* is the larger of both actions' mean errors, "
        "*best* the optimum's return on the same shocks. "
        "Returns tell little: see the README. "
        f"Commands are in [{COMPARISON}.json]({COMPARISON}.json).",
        "",
        *comparison(folder),
        "",
        *(f"![{path.stem}]({path.name})" for path in sorted(folder.glob(f"{COMPARISON}-*.svg"))),
    ]


def spread(values: list[float]) -> str:
    """The median, and the range, as text."""
    return f"**{shown(middle(values))}** ({shown(min(values))} to {shown(max(values))})"


def _control(metric: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first of the named controls that the metric has, as text."""
    controls = metric["controls"]
    return next((shown(controls[name]) for name in names if name in controls), "")


def _row(metrics: list[dict[str, Any]], of: str) -> str:
    """One metric of the seeds that have it; answer, limit and controls are the first one's."""
    first = metrics[0]
    cells = [
        labelled(first) + of,
        spread([float(m["value"]) for m in metrics]),
        shown(first["answer"]),
        shown(first["limit"]),
        _control(first, SIMPLE),
        _control(first, ("log-linear",)),
        _control(first, ("untrained network",)),
    ]
    return markdown_row(cells)
