"""The pages of pricing: its table in the README, and `pricing.md` with every figure of the
certificates.

A test compares them with the JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results.documents import VARIED, read
from benchmarks.results.page import labelled, made_by, opening, pictures, put, spread
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


def fill_readme(folder: Path, readme: Path) -> None:
    """Puts the table between the markers of a README."""
    put(readme, BEGIN, table(folder), END)


def judged(seed: dict[str, Any]) -> dict[str, Any]:
    """The figure that decides: the loss against the answer, or where sellers compete the largest
    best-response gain."""
    metrics = seed["metrics"]
    found: dict[str, Any] = metrics.get("shortfall") or metrics["best_response_gain/exact"]
    return found


def table(folder: Path) -> str:
    """A row for each experiment: loss against the answer, in %, median over seeds, beside its
    controls."""
    head = (
        "experiment",
        "seeds certified",
        "loss, %",
        "best simple rule",
        "fit, then plan",
        "untrained",
        "CPU seconds",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in PRICING:
        seeds = read(folder, name)["seeds"]
        first = judged(seeds[0])
        planned = [v for label, v in first["controls"].items() if label.startswith("fit-then-plan")]
        cells = [
            f"`{name}`",
            f"{sum(bool(seed['passed']) for seed in seeds)} of {len(seeds)}",
            spread([float(judged(seed)["value"]) for seed in seeds]),
            next((shown(first["controls"][n]) for n in SIMPLE if n in first["controls"]), ""),
            shown(planned[0]) if planned else "",
            shown(first["controls"]["untrained network"]),
            spread([float(seed["cpu_seconds"]) for seed in seeds]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def varied(folder: Path) -> list[str]:
    """The table of currencies and rules."""
    lines = ["| variation | loss, % |", "|---|---|"]
    for row in read(folder, VARIED)["rows"]:
        lines.append(
            f"| {row['label']} | {spread([float(seed['shortfall']) for seed in row['seeds']])} |"
        )
    return lines


def page(folder: Path) -> str:
    """All figures of all experiments as Markdown, with commands, seeds and the machine."""
    lines = [
        "# Pricing: what was learned, beside what is known",
        "",
        f"{made_by(read(folder, PRICING[0]))} Each figure is the median over the seeds, with their "
        "range; CPU seconds are those "
        "of the whole process, from its start to the certificate.",
    ]
    for name in PRICING:
        lines += _section(folder, name)
    lines += [
        "",
        "## Other currencies, other rules of exploration",
        "",
        f"`{SEASON}` with all money in another unit, and with other rules. Without normalised "
        "values the learner depends on "
        "the currency; Boltzmann's temperature does so in any case. Commands are in "
        f"[{VARIED}.json]({VARIED}.json).",
        "",
        *varied(folder),
    ]
    return "\n".join(lines) + "\n"


def _section(folder: Path, name: str) -> list[str]:
    """One experiment."""
    found = read(folder, name)
    seeds = found["seeds"]
    labels = list(dict.fromkeys(c for m in seeds[0]["metrics"].values() for c in m["controls"]))
    head = ["figure", "learned", "answer", "limit", *labels]
    lines = [
        *opening(name, found, "cpu_seconds", "CPU seconds"),
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for key, first in seeds[0]["metrics"].items():
        cells = [
            labelled(first),
            spread([float(seed["metrics"][key]["value"]) for seed in seeds]),
            shown(first["answer"]),
            shown(first["limit"]),
            *(shown(first["controls"].get(label)) for label in labels),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, *pictures(folder, name)]
