"""`python -m benchmarks.results FOLDER [--quick] [--runs RUNS] [--workers N]`."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks.results import documents, page, pricing_page, systems
from benchmarks.results.plan import FULL, QUICK
from benchmarks.results.pool import RunsFailedError, carry_out
from rl_markets.experiment.machine import available_cpus

README = Path("README.md")


def main() -> int:
    """Trains everything that is planned, and writes it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("folder", type=Path, help="takes the documents, pictures and the page")
    parser.add_argument(
        "--quick", action="store_true", help="one seed and few sizes; the README stays as it is"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="takes the runs")
    parser.add_argument(
        "--workers",
        type=int,
        default=available_cpus(),
        help="runs at a time, by default one a core",
    )
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    runs = [*plan.certified, *plan.variations, *plan.compared]
    say = partial(print, flush=True)
    try:
        carry_out(runs, arguments.runs, arguments.workers, say)
    except RunsFailedError as error:
        print(f"rl-markets: {error}", file=sys.stderr)
        return 1
    documents.write_all(plan, arguments.runs, arguments.folder)
    page.write(arguments.folder)
    pricing_page.write(arguments.folder)
    if not arguments.quick:
        page.fill_overview(arguments.folder)
        pricing_page.fill_overview(arguments.folder)
        systems.fill_readme(arguments.folder, README)
    print(f"written: {arguments.folder / page.PAGE}, {arguments.folder / pricing_page.PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
