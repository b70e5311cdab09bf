"""The market without policies: many small worlds, and one large one."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.speed import economy
from benchmarks.speed.rounds import Say, Work, absolute, in_turns

SMALL_TARGET = 5e6
LARGE_TARGET = 3e3


@torch.no_grad()
def measure(seconds: float, say: Say) -> dict[str, Any]:
    """Agent steps of the worlds that PPO is measured in; steps of a single large world."""
    torch.set_num_threads(1)
    size = economy.SIZE
    sides = {
        "small": stepping(size.households, size.worlds, size.households * size.worlds),
        "large": stepping(size.large, 1, 1),
    }
    rates = in_turns(sides, seconds / 4, size.rounds, say)
    small = f"agent steps per CPU second, {size.worlds} x {size.households} households"
    large = f"market steps per CPU second, 1 x {size.large} households"
    rows = [
        absolute(small, rates["small"], SMALL_TARGET),
        absolute(large, rates["large"], LARGE_TARGET),
    ]
    return {"rows": rows}


def stepping(households: int, worlds: int, units: int) -> Work:
    """Steps a market a hundred times, near its steady state; `units` is the worth of one step."""
    market = economy.market(households, worlds)
    market.reset(0)
    actions = {"households": torch.tensor([0.16, 0.13]).expand(worlds, households, 2).contiguous()}

    def work() -> int:
        for _ in range(100):
            market.step(actions)
        return 100 * units

    return work
