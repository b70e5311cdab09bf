"""Recipes that travel: other economies and seasons, drawn by a seed, with the shipped recipes
unchanged.

`python -m benchmarks.results.travel FOLDER [--seed S] [--runs RUNS] [--workers N]`.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.results.documents import read, write_document
from benchmarks.results.page import markdown_head, markdown_row
from benchmarks.results.plan import Run
from benchmarks.results.pool import RunsFailedError, carry_out
from rl_markets.certificate import document as certificates
from rl_markets.certificate import tables
from rl_markets.experiment.machine import available_cpus
from rl_markets.experiment.rules import LATEST
from rl_markets.store import write_text
from rl_markets.training.run_folder import RunFolder

DOCUMENT = "travel"
PAGE = "travel.md"
RECIPES = (
    "households-full-depreciation",
    "households-full-depreciation-analytic",
    "households-rbc-analytic",
    "households-rbc",
)
"""Each economy is learned by one of them, in turn."""
ECONOMIES = 8
SEASONS = 8
SEASON = "pricing-gvr"
PARAMETERS = "market.parameters"


def economy(number: int, seed: int) -> Run:
    """A random economy: alpha in [.2, .42], beta in [.9, .99], b in [1, 6], delta in [.02, .15]."""
    rng = np.random.default_rng([seed, 0, number])
    drawn = {
        "alpha": rng.uniform(0.20, 0.42),
        "beta": rng.uniform(0.90, 0.99),
        "b": rng.uniform(1.0, 6.0),
        "delta": rng.uniform(0.02, 0.15),
    }
    recipe = RECIPES[number % len(RECIPES)]
    if "full" in recipe:
        del drawn["delta"]
    overrides = tuple(f"{PARAMETERS}.{name}={value:.3f}" for name, value in drawn.items())
    return Run(recipe, 0, overrides, label=f"travel-economy-{number}")


def season(number: int, seed: int) -> Run:
    """A random season: 10 to 50 periods, 8 to 40 units, demand that falls by a factor of e over a
    third to all of the list price, and at the list price .4 to 1.2 times the stock in all."""
    rng = np.random.default_rng([seed, 1, number])
    periods = int(rng.integers(10, 51))
    units = int(rng.integers(8, 41))
    list_price = float(rng.uniform(20, 2000))
    steepness = float(rng.uniform(1.0, 3.0))
    at_list = float(rng.uniform(0.4, 1.2)) * units / periods
    size = at_list * float(np.exp(steepness))
    demand = f"{{family: exponential, size: [{size:.4f}], slope: [{steepness / list_price:.6g}]}}"
    overrides = (
        f"{PARAMETERS}.periods={periods}",
        f"{PARAMETERS}.list_price=[{list_price:.2f}]",
        f"{PARAMETERS}.demand={demand}",
        f"{PARAMETERS}.stock={{units: [{units}]}}",
    )
    return Run(SEASON, 0, overrides, label=f"travel-season-{number}")


def runs(seed: int) -> list[Run]:
    """All of them."""
    return [
        *(economy(number, seed) for number in range(ECONOMIES)),
        *(season(number, seed) for number in range(SEASONS)),
    ]


def rows(planned: list[Run], root: Path) -> list[dict[str, object]]:
    """What became of each run."""
    found = []
    for run in planned:
        certificate = certificates.read(RunFolder.open(root / run.folder / LATEST).certificate)
        main = max(
            (m for m in certificate.judged if m.examined and m.limit),
            key=lambda m: m.value / (m.limit or 1.0),
        )
        found.append(
            {
                "experiment": run.experiment,
                "overrides": list(run.overrides),
                "passed": certificate.passed,
                "closest": f"{main.label} {tables.shown(main.value)} of {tables.shown(main.limit)}",
                "verdict": tables.verdict(certificate),
            }
        )
    return found


def page(folder: Path) -> str:
    """The table, as Markdown."""
    content = read(folder, DOCUMENT)
    found = content["rows"]
    passed = sum(bool(row["passed"]) for row in found)
    lines = [
        "# Recipes that travel",
        "",
        "Economies and seasons that nobody tuned, drawn from stated ranges by a seed "
        f"({content['seed']}), trained with the shipped recipes as they are: certified "
        f"**{passed} of {len(found)}**. `python -m benchmarks.results.travel docs/results` makes "
        "it again; the ranges stand in `benchmarks/results/travel.py`.",
        "",
        *markdown_head(("recipe", "drawn", "certified", "the line closest to its limit")),
    ]
    for row in found:
        drawn = ", ".join(text.removeprefix(f"{PARAMETERS}.") for text in row["overrides"])
        cells = (
            f"`{row['experiment']}`",
            f"`{drawn}`",
            "yes" if row["passed"] else "**no**",
            row["closest"],
        )
        lines.append(markdown_row(cells))
    missed = [row for row in found if not row["passed"]]
    lines += ["", *(f"- `{row['experiment']}`: {row['verdict']}" for row in missed)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Trains all, and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results.travel")
    parser.add_argument("folder", type=Path, help="takes the table")
    parser.add_argument("--seed", type=int, default=1, help="of the draws")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="takes the runs")
    parser.add_argument("--workers", type=int, default=available_cpus(), help="runs at a time")
    arguments = parser.parse_args()
    planned = runs(arguments.seed)
    try:
        carry_out(planned, arguments.runs, arguments.workers, partial(print, flush=True))
    except RunsFailedError as error:
        print(f"rl-markets: {error}", file=sys.stderr)
        return 1
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_document(
        arguments.folder,
        DOCUMENT,
        {"seed": arguments.seed, "rows": rows(planned, arguments.runs)},
    )
    write_text(arguments.folder / PAGE, page(arguments.folder))
    print(f"written: {arguments.folder / PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
