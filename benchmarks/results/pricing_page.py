"""The pages of pricing: its table, and `pricing.md` with every value of the certificates.

A test compares them with the JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results.documents import VARIED, by_metric, of_seeds, read
from benchmarks.results.page import (
    OVERVIEW,
    labelled,
    made_by,
    markdown_head,
    markdown_row,
    opening,
    pictures,
    put,
    spread,
)
from benchmarks.results.plan import PRICING, SEASON
from rl_markets.certificate.tables import shown
from rl_markets.store import write_text

BEGIN = "<!-- pricing: made by `make results` -->"
END = "<!-- end of pricing -->"
PAGE = "pricing.md"
SIMPLE = ("best fixed price", "best constant offer", "one level for all products", "list prices")
"""Controls that are the best simple rule, by experiment."""


def write(folder: Path) -> None:
    """The page, from the documents in `folder`."""
    write_text(folder / PAGE, page(folder))


def fill_overview(folder: Path) -> None:
    """Puts the table between the markers of the folder's overview."""
    put(folder / OVERVIEW, BEGIN, table(folder), END)


def judged(seed: dict[str, Any]) -> dict[str, Any]:
    """The metric that decides: the loss against the answer, or the largest best-response gain.

    The gain decides where sellers compete, and no policy is best whatever the others do.
    """
    metrics = seed["metrics"]
    metric: dict[str, Any] = metrics.get("shortfall") or metrics["best_response_gain/exact"]
    return metric


def table(folder: Path) -> str:
    """A row for each experiment: loss against the answer in %, median over seeds, and controls."""
    head = (
        "experiment",
        "seeds certified",
        "loss, %",
        "best simple rule",
        "fit, then plan",
        "untrained",
        "CPU seconds",
    )
    lines = markdown_head(head)
    for name in PRICING:
        seeds = read(folder, name)["seeds"]
        passed = sum(bool(seed["passed"]) for seed in seeds)
        controls = judged(seeds[0])["controls"]
        simple = [shown(controls[label]) for label in SIMPLE if label in controls]
        # the labels go on with the number of logged seasons, of which the first is shown
        planned = [shown(v) for label, v in controls.items() if label.startswith("fit-then-plan")]
        cells = [
            f"`{name}`",
            f"{passed} of {len(seeds)}",
            spread([float(judged(seed)["value"]) for seed in seeds]),
            next(iter(simple), ""),
            next(iter(planned), ""),
            shown(controls["untrained network"]),
            spread([float(seed["cpu_seconds"]) for seed in seeds]),
        ]
        lines.append(markdown_row(cells))
    return "\n".join(lines)


def varied(folder: Path) -> list[str]:
    """The table of currencies and rules."""
    lines = markdown_head(("variation", "loss, %"))
    for row in read(folder, VARIED)["rows"]:
        losses = [float(seed["shortfall"]) for seed in row["seeds"]]
        lines.append(markdown_row((row["label"], spread(losses))))
    return lines


def page(folder: Path) -> str:
    """All values of all experiments as Markdown, with commands, seeds and the machine."""
    lines = [
        "# Pricing: what was learned, beside what is known",
        "",
        f"{made_by(read(folder, PRICING[0]))} "
        "Each figure is the median over the seeds, with their range; "
        "CPU seconds are those of the whole process, from its start to the certificate.",
    ]
    for name in PRICING:
        lines += _section(folder, name)
    lines += [
        "",
        "## Other currencies, other rules of exploration",
        "",
        f"`{SEASON}` with all money in another unit, and with other rules. "
        "Without normalised values the learner depends on the currency; "
        "Boltzmann's temperature does so in any case. "
        f"Commands are in [{VARIED}.json]({VARIED}.json).",
        "",
        *varied(folder),
    ]
    return "\n".join(lines) + "\n"


def _section(folder: Path, name: str) -> list[str]:
    """One experiment."""
    document = read(folder, name)
    seeds = document["seeds"]
    metrics = by_metric(seeds)
    # all controls that a metric has, once each, in the order of their first appearance
    labels = list(dict.fromkeys(c for metric in metrics for c in metric[0]["controls"]))
    lines = opening(name, document, "cpu_seconds", "CPU seconds")
    lines += markdown_head(["figure", "learned", "answer", "limit", *labels])
    for values in metrics:
        first = values[0]
        cells = [
            labelled(first) + of_seeds(values, seeds),
            spread([float(value["value"]) for value in values]),
            shown(first["answer"]),
            shown(first["limit"]),
            *(shown(first["controls"].get(label)) for label in labels),
        ]
        lines.append(markdown_row(cells))
    return [*lines, *pictures(folder, name)]
