"""JAX beside ours: the same economy and the same PPO, written the way JAX users write them and
compiled whole.

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
from benchmarks.speed.economy import built, experiment, trained
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
        os.environ.setdefault(name, setting)
    torch.set_num_threads(1)
    size = economy.SIZE
    rows = list[Row]()
    compiling = dict[str, float]()
    for households, worlds in (
        (size.households, 1),
        (size.households, size.worlds),
        (size.large, 1),
    ):
        rows.append(_market(households, worlds, seconds, say))
    for worlds in dict.fromkeys((size.worlds, 1)):
        row, compiling[row["what"]] = _training(worlds, seconds, say)
        rows.append(row)
    return {
        "rows": rows,
        "notes": _notes(compiling),
        "jax": version("jax"),
        "compile_seconds": compiling,
    }


def _notes(compiling: dict[str, float]) -> list[str]:
    took = ", ".join(f"{what} {spent:.1f}" for what, spent in compiling.items())
    return [
        f"JAX {version('jax')}, one thread; agent steps per CPU second",
        f"wall-clock seconds to compile JAX's training step: {took}",
        "compile time is not counted in JAX's figures",
        "JAX's PPO has our rollout, networks, epochs and minibatches; it neither normalises values "
        "nor averages the actor,"
        " and has no service around it: figures, checks, checkpoints",
    ]


@torch.no_grad()
def _market(households: int, worlds: int, seconds: float, say: Say) -> Row:
    from benchmarks.speed.by_hand_jax import Player

    parameters: Any = experiment(households=households, worlds=worlds, steps=1).market_parameters
    ours = stepping(households, worlds, households * worlds)
    sides: dict[str, Work] = {OURS: ours, JAX: Player(parameters, worlds, STEPS)}
    for work in sides.values():
        work()
    found = in_turns(sides, seconds / 4, economy.SIZE.rounds, say)
    return compared(
        f"the market alone, {worlds} x {households} households", JAX, found[OURS], found[JAX], None
    )


def _training(worlds: int, seconds: float, say: Say) -> tuple[Row, float]:
    """PPO in so many worlds, with as many rows an iteration as `SIZE` has; and the seconds that JAX
    compiled."""
    from benchmarks.speed.by_hand_jax_ppo import Shape, Trainer

    size = economy.SIZE
    steps = size.steps * size.worlds // worlds
    minibatches = max(1, worlds * steps * size.households // size.minibatch)
    parameters: Any = experiment().market_parameters
    theirs = Trainer(parameters, Shape(worlds, steps, size.epochs, minibatches, size.hidden))
    with built(experiment(worlds=worlds, steps=steps)) as (algorithm,):
        sides: dict[str, Work] = {OURS: partial(trained, algorithm), JAX: theirs}
        for work in sides.values():
            work()
        found = in_turns(sides, seconds, size.rounds, say)
    what = f"PPO, {worlds} x {size.households} households, {steps} steps"
    return compared(what, JAX, found[OURS], found[JAX], None), theirs.compile_seconds
