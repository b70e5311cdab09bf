"""What an agent step of PPO costs as agents become many, with as many rows an iteration."""

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
        rates = in_turns(sides, seconds, size.rounds, say)
    usual = [n for n, *_ in size.scales].index(size.households)
    base = rates.pop(list(rates)[usual])
    against = f"{size.households} households"
    return {"rows": [cost(name, against, rate, base, TARGET) for name, rate in rates.items()]}
