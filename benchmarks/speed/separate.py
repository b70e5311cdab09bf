"""What it costs that every household has a policy of its own: beside one for all, and RLlib's."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.speed import economy, stock
from benchmarks.speed.economy import built, experiment, trained
from benchmarks.speed.rounds import Row, Say, compared, cost, in_turns, rate

TARGET = 1.3
TARGET_OF_MANY = 2.0


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """PPO's sampling and learning: few households with RLlib's own beside them, and many."""
    size = economy.SIZE
    rows = _few(seconds, say) + _many(seconds, say)
    households, worlds, steps = size.many
    note = f"{worlds} x {households} households, {steps} steps; as many rows of each in a minibatch"
    return {"rows": rows, "notes": [note]}


def _few(seconds: float, say: Say) -> list[Row]:
    size = economy.SIZE
    what = f"{size.households} households"
    modules = f"RLlib's own with {size.households} modules"
    theirs = stock.ppo(size.stock_envs[0], separate=True)
    with built(experiment(), experiment(separate=True), theirs) as (shared, separate, stocks):
        sides = {"shared": partial(trained, shared), "separate": partial(trained, separate)}
        for work in sides.values():
            work()
        rates = in_turns(sides, seconds, size.rounds, say)
        slow = rate(partial(trained, stocks), seconds)  # a single time: an iteration takes long
        say(f"{modules}: {slow:.4g}/s")
    # of rates, so that the ratio says how many times faster ours is; both sides are told as costs
    against_stock = compared(what, modules, rates["separate"], [slow] * size.rounds, None)
    costs = {side: 1e6 / against_stock[side] for side in ("ours", "theirs")}
    return [
        cost(what, "one shared policy", rates["separate"], rates["shared"], TARGET),
        {**against_stock, **costs},
    ]


def _many(seconds: float, say: Say) -> list[Row]:
    size = economy.SIZE
    households, worlds, steps = size.many
    many = partial(
        experiment,
        households=households,
        worlds=worlds,
        steps=steps,
        # as many rows of each household in a minibatch as with few households
        minibatches=max(1, worlds * steps * size.households // size.minibatch),
    )
    with built(many(), many(separate=True)) as (shared, separate):
        sides = {
            "shared": partial(trained, shared, households),
            "separate": partial(trained, separate, households),
        }
        for work in sides.values():
            work()
        rates = in_turns(sides, seconds, size.rounds, say)
    what = f"{households} households"
    return [cost(what, "one shared policy", rates["separate"], rates["shared"], TARGET_OF_MANY)]
