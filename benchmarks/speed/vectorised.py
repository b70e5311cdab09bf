"""JAX beside ours: the same economy and the same PPO, as JAX users write them, compiled whole.

JAX is optional: what imports it, `by_hand_jax` and `by_hand_jax_ppo`, is imported where it is used.

Ours pays a call of torch for each small operation, and for RLlib's service around it; theirs pays
the compiler.
"""

from __future__ import annotations

import os
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.speed import economy
from benchmarks.speed.economy import built, experiment, household_parameters, trained
from benchmarks.speed.market_alone import stepping
from benchmarks.speed.rounds import OURS, Row, Say, Work, compared, in_turns

MISSING = "JAX is not installed: pip install 'rl-markets[jax]'"
JAX = "JAX, compiled"
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "PJRT_NPROC": "1"}
"""Read when JAX starts: one thread, as ours has, where a CPU second is what is counted."""
STEPS = 100
"""Of the market alone in a call, as many as `market_alone.stepping` takes."""


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """Agent steps of the market alone at three sizes, and of PPO at two."""
    if find_spec("jax") is None:
        return {"rows": [], "notes": [MISSING]}
    for name, setting in ENVIRONMENT.items():
        os.environ.setdefault(name, setting)  # before the functions below import JAX
    torch.set_num_threads(1)
    size = economy.SIZE
    rows = list[Row]()
    compile_seconds = dict[str, float]()
    for households, worlds in ((size.households, 1), (size.households, size.worlds)):
        rows.append(_market(households, worlds, seconds, say))
    rows.append(_market(size.large, 1, seconds, say))
    for worlds in dict.fromkeys((size.worlds, 1)):
        row, spent = _training(worlds, seconds, say)
        compile_seconds[row["what"]] = spent
        rows.append(row)
    return {
        "rows": rows,
        "notes": _notes(compile_seconds),
        "jax": version("jax"),
        "compile_seconds": compile_seconds,
    }


def _notes(compile_seconds: dict[str, float]) -> list[str]:
    spent = ", ".join(f"{what} {seconds:.1f}" for what, seconds in compile_seconds.items())
    return [
        f"JAX {version('jax')}, one thread; agent steps per CPU second",
        f"wall-clock seconds to compile JAX's training step: {spent}",
        "compile time is not counted in JAX's figures",
        "JAX's PPO has our rollout, networks, epochs and minibatches; "
        "it neither normalises values nor averages the actor, "
        "and has no service around it: figures, checks, checkpoints",
    ]


@torch.no_grad()
def _market(households: int, worlds: int, seconds: float, say: Say) -> Row:
    from benchmarks.speed.by_hand_jax import Player  # here, as JAX is optional

    one_step = experiment(households=households, worlds=worlds, steps=1)
    ours = stepping(households, worlds, households * worlds)
    theirs = Player(household_parameters(one_step), worlds, STEPS)
    sides: dict[str, Work] = {OURS: ours, JAX: theirs}
    for work in sides.values():
        work()
    rates = in_turns(sides, seconds / 4, economy.SIZE.rounds, say)
    what = f"the market alone, {worlds} x {households} households"
    return compared(what, JAX, rates[OURS], rates[JAX], None)


def _training(worlds: int, seconds: float, say: Say) -> tuple[Row, float]:
    """PPO in so many worlds, with as many rows an iteration as `SIZE` has.

    Gives the seconds that JAX compiled, too.
    """
    from benchmarks.speed.by_hand_jax_ppo import Shape, Trainer  # here, as JAX is optional

    size = economy.SIZE
    steps = size.steps * size.worlds // worlds
    minibatches = max(1, worlds * steps * size.households // size.minibatch)
    shape = Shape(worlds, steps, size.epochs, minibatches, size.hidden)
    theirs = Trainer(household_parameters(experiment()), shape)
    with built(experiment(worlds=worlds, steps=steps)) as (algorithm,):
        sides: dict[str, Work] = {OURS: partial(trained, algorithm), JAX: theirs}
        for work in sides.values():
            work()
        rates = in_turns(sides, seconds, size.rounds, say)
    what = f"PPO, {worlds} x {size.households} households, {steps} steps"
    return compared(what, JAX, rates[OURS], rates[JAX], None), theirs.compile_seconds
