"""What it costs that every household has a policy of its own: against one for all, and against
RLlib's own."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.speed import economy
from benchmarks.speed.economy import built, experiment, trained
from benchmarks.speed.rounds import Row, Say, compared, cost, in_turns, rate

TARGET = 1.3
TARGET_OF_MANY = 2.0


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """PPO's sampling and learning: few households with RLlib's own beside them, and many."""
    size = economy.SIZE
    rows = _few(seconds, say) + _many(seconds, say)
    (households, worlds, steps) = size.many
    note = f"{worlds} x {households} households, {steps} steps; as many rows of each in a minibatch"
    return {"rows": rows, "notes": [note]}


def _few(seconds: float, say: Say) -> list[Row]:
    from benchmarks.speed import stock

    size = economy.SIZE
    envs = economy.SIZE.stock_envs[0]
    with built(experiment(), experiment(separate=True), stock.ppo(envs, separate=True)) as (
        shared,
        separate,
        theirs,
    ):
        sides = {"shared": partial(trained, shared), "separate": partial(trained, separate)}
        for work in sides.values():
            work()
        found = in_turns(sides, seconds, size.rounds, say)
        slow = rate(partial(trained, theirs), seconds)  # a single time: an iteration takes long
        say(f"RLlib's own with {size.households} modules: {slow:.4g}/s")
    what = f"{size.households} households"
    against_stock = compared(
        what,
        f"RLlib's own with {size.households} modules",
        found["separate"],
        [slow] * size.rounds,
        None,
    )
    micro = {name: 1e6 / against_stock[name] for name in ("ours", "theirs")}
    return [
        cost(what, "one shared policy", found["separate"], found["shared"], TARGET),
        {**against_stock, **micro},
    ]


def _many(seconds: float, say: Say) -> list[Row]:
    households, worlds, steps = economy.SIZE.many
    minibatches = max(1, worlds * steps * economy.SIZE.households // economy.SIZE.minibatch)
    shape = {"households": households, "worlds": worlds, "steps": steps, "minibatches": minibatches}
    with built(experiment(**shape), experiment(**shape, separate=True)) as (shared, separate):  # type: ignore[arg-type]
        sides = {
            "shared": partial(trained, shared, households),
            "separate": partial(trained, separate, households),
        }
        for work in sides.values():
            work()
        found = in_turns(sides, seconds, economy.SIZE.rounds, say)
    what = f"{households} households"
    return [cost(what, "one shared policy", found["separate"], found["shared"], TARGET_OF_MANY)]
