"""The pricing market without policies: worlds in a batch, one in numpy, one in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.speed import economy
from benchmarks.speed.plain_pricing import LoopPricing, PlainPricing, parameters
from benchmarks.speed.rounds import OURS, Say, Work, absolute, compared, in_turns
from rl_markets.envs.pricing.market import Pricing

TARGET = 1e5
RATIO_TARGET = 20.0
NUMPY = "gymnasium, numpy"
LOOPS = "gymnasium, plain Python"
DRAWN = 16
"""Actions drawn in advance, of which the worlds are given one after the other."""


@torch.no_grad()
def measure(seconds: float, say: Say) -> dict[str, Any]:
    """Market steps of three sellers of eight products each, one of whom acts at random."""
    torch.set_num_threads(1)
    size = economy.SIZE
    sides = {
        OURS: batched(size.pricing_worlds),
        NUMPY: single(PlainPricing(parameters())),
        LOOPS: single(LoopPricing(parameters())),
    }
    for work in sides.values():
        work()
    rates = in_turns(sides, seconds / 3, size.rounds, say)
    what = f"market steps per CPU second, {size.pricing_worlds} worlds"
    rows = [
        absolute(what, rates[OURS], TARGET),
        compared(what, NUMPY, rates[OURS], rates[NUMPY], RATIO_TARGET),
        compared(what, LOOPS, rates[OURS], rates[LOOPS], RATIO_TARGET),
    ]
    note = (
        "3 sellers (1 acts, 2 follow rules) x 8 products; "
        "calendar, shock, reference prices, stock with orders"
    )
    return {"rows": rows, "notes": [note]}


def batched(worlds: int) -> Work:
    """Ten steps of all worlds."""
    p = parameters()
    market = Pricing(p, worlds=worlds)
    generator = torch.Generator().manual_seed(0)
    market.reset(0)
    shape = (worlds, 1, p.products)
    levels = len(p.levels)
    drawn = [torch.randint(levels, shape, generator=generator) for _ in range(DRAWN)]
    actions = [{"seller": action} for action in drawn]
    t = 0

    def work() -> int:
        nonlocal t
        for _ in range(10):
            market.step(actions[t % DRAWN])
            t += 1
        return 10 * worlds

    return work


def single(world: PlainPricing) -> Work:
    """A hundred steps of one world."""
    actions = np.random.default_rng(0).integers(0, len(world.levels), (DRAWN, world.P))
    world.reset(seed=0)

    def work() -> int:
        for t in range(100):
            *_, truncated, _ = world.step(actions[t % DRAWN])
            if truncated:
                world.reset()
        return 100

    return work
