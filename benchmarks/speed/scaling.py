"""What an agent step costs as agents become many: sampling and learning by PPO, with as many rows
an iteration."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.speed import economy
from benchmarks.speed.economy import built, experiment, trained
from benchmarks.speed.rounds import Say, cost, in_turns

TARGET = 1.5


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """All sizes in turns; each against the size that the other measurements have."""
    size = economy.SIZE
    experiments = [
        experiment(households=n, worlds=worlds, steps=steps) for n, worlds, steps in size.scales
    ]
    with built(*experiments) as algorithms:
        sides = {
            f"{worlds} x {n} households, {steps} steps": partial(trained, algorithm, n)
            for (n, worlds, steps), algorithm in zip(size.scales, algorithms, strict=True)
        }
        for work in sides.values():
            work()
        found = in_turns(sides, seconds, size.rounds, say)
    names = list(found)
    usual = names[[n for n, *_ in size.scales].index(size.households)]
    others = [name for name in names if name != usual]
    return {
        "rows": [
            cost(name, f"{size.households} households", found[name], found[usual], TARGET)
            for name in others
        ]
    }
