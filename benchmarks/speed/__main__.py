"""`python -m benchmarks.speed [--seconds S] [--output FILE] [--only NAME ...]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rl_markets.quiet import quiet_ray


def main() -> int:
    """Measures speed side by side with RLlib, Stable-Baselines3, JAX and plain torch."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=main.__doc__)
    parser.add_argument(
        "--seconds", type=float, default=2.5, help="CPU seconds of each value in each round"
    )
    parser.add_argument("--output", type=Path, help="write the values as JSON, too")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="measure only this, such as sac"
    )
    arguments = parser.parse_args()
    quiet_ray()  # before ray is imported, which these imports do
    from benchmarks.speed.measurements import run
    from rl_markets.errors import ExperimentError

    try:
        run(arguments.seconds, arguments.output, arguments.only)
    except ExperimentError as error:
        print(f"rl-markets: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
