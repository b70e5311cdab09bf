"""Tries odd experiment files, markets, policy folders, logs and crashes, as outsiders would.

`python -m tests.attack [--seed N] [--scale X]`: a table of what was tried and held; what did not
hold is listed, and the exit code is then 1. Nothing may end in a traceback, hang, or be accepted
wrongly.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from rich.table import Table

from rl_markets.progress import console
from rl_markets.quiet import quiet_ray
from tests.attack import crashes, data, experiments, markets, policies
from tests.attack.judge import Case, judge

Cases = Callable[[random.Random, int], Iterator[Case]]
KINDS: dict[str, tuple[Cases, int]] = {
    "experiment files": (experiments.cases, 2000),
    "markets": (markets.cases, 2 * len(markets.SPECS)),
    "policy folders": (policies.cases, 500),
    "data files": (data.cases, 500),
    "crashes": (crashes.cases, 100),
}
"""Kind -> its generator, and how many cases fill a few minutes."""


def main() -> None:
    """Tries them all."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is tried")
    parser.add_argument("--scale", type=float, default=1.0, help="of how much is tried")
    parser.add_argument("--only", choices=list(KINDS), help="one kind alone")
    options = parser.parse_args()
    quiet_ray()
    torch.set_num_threads(1)
    screen = console()
    table = Table("kind", "tried", "refused", "accepted", "held", "seconds")
    broken = 0
    for kind, (cases, count) in KINDS.items():
        if options.only not in (None, kind):
            continue
        started = time.perf_counter()
        verdicts: Counter[str] = Counter()
        for case in cases(random.Random(options.seed), max(1, round(options.scale * count))):
            outcome = judge(case)
            verdicts[outcome.verdict] += 1
            if not outcome.held:
                broken += 1
                screen.print(f"{kind}: {outcome.verdict}: {case.name}\n{outcome.words}")
        tried = verdicts.total()
        held = verdicts["refused"] + verdicts["accepted"]
        seconds = time.perf_counter() - started
        cells = (tried, verdicts["refused"], verdicts["accepted"], held, f"{seconds:.0f}")
        table.add_row(kind, *map(str, cells))
    screen.print(table)
    screen.print(f"seed {options.seed}: {broken} of the attacks were not held")
    if broken:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
