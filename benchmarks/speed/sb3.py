"""Stable-Baselines3 beside ours: households share a policy, each is a slot of a `VecEnv`.

Three times: with our settings in as many worlds as ours, the same in a single world, and as the
paper runs it (its defaults, two economies), which is what our users would otherwise do.

Stable-Baselines3 is optional: what imports it, `by_hand_sb3`, is imported where it is used.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import Any

from benchmarks.speed import economy
from benchmarks.speed.economy import built, experiment, household_parameters, trained
from benchmarks.speed.rounds import OURS, Say, Work, compared, in_turns

TARGET = 10.0
MISSING = "Stable-Baselines3 is not installed: pip install 'rl-markets[sb3]'"
SB3 = "Stable-Baselines3"
PAPER = f"{SB3}, defaults, 2 worlds"
PAPER_WORLDS = 2
"""The paper's economies side by side."""
PAPER_STEPS = 64
"""Steps of a measured iteration; a rate does not depend on them."""


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """PPO and SAC, ours and theirs in turns."""
    if find_spec("stable_baselines3") is None:
        return {"rows": [], "notes": [MISSING]}
    size = economy.SIZE
    rows = []
    for learner, build in (("ppo", ppo), ("sac", sac)):
        with built(experiment(learner)) as (ours,):
            sides: dict[str, Work] = {OURS: partial(trained, ours)}
            for worlds in dict.fromkeys((size.worlds, 1)):
                name = f"{SB3}, {worlds} worlds" if worlds > 1 else f"{SB3}, a single world"
                sides[name] = build(worlds)
            sides[PAPER] = defaults(learner)
            for work in sides.values():
                work()
            rates = in_turns(sides, seconds, size.rounds, say)
        mine = rates.pop(OURS)
        for name, theirs in rates.items():
            target = TARGET if name == PAPER else None
            rows.append(compared(learner.upper(), name, mine, theirs, target))
    note = (
        "rows, minibatches, epochs and agent steps for each gradient step are ours, "
        f"but for {PAPER!r}"
    )
    return {"rows": rows, "notes": [note]}


def ppo(worlds: int) -> Work:
    """An iteration of PPO with as many rows as ours."""
    from benchmarks.speed import by_hand_sb3

    size = economy.SIZE
    steps = size.steps * size.worlds // worlds
    model = by_hand_sb3.PPO(
        "MlpPolicy",
        _env(worlds),
        n_steps=steps,
        batch_size=size.minibatch,
        n_epochs=size.epochs,
        learning_rate=1e-3,
        gamma=0.95,
        policy_kwargs=by_hand_sb3.networks(),
        device="cpu",
        seed=0,
    )
    return partial(_learned, model, steps * worlds * size.households)


def sac(worlds: int) -> Work:
    """A replay iteration with as many agent steps and gradient steps as ours.

    Learning goes on from the start.
    """
    from benchmarks.speed import by_hand_sb3

    size = economy.SIZE
    steps = size.replay_steps * size.worlds // worlds
    # several gradient steps for each step of the worlds, or one for several of them
    gradient_steps = max(1, size.updates // steps)
    train_freq = max(1, steps // size.updates)
    model = by_hand_sb3.SAC(
        "MlpPolicy",
        _env(worlds),
        train_freq=train_freq,
        gradient_steps=gradient_steps,
        batch_size=size.batch,
        learning_starts=0,
        buffer_size=100_000,
        learning_rate=1e-3,
        gamma=0.95,
        policy_kwargs=by_hand_sb3.networks(),
        device="cpu",
        seed=0,
    )
    return partial(_learned, model, steps * worlds * size.households)


def defaults(learner: str) -> Work:
    """As the paper trains: every setting the library's own, the networks included."""
    from benchmarks.speed import by_hand_sb3

    env = _env(PAPER_WORLDS)
    rows = PAPER_STEPS * PAPER_WORLDS * economy.SIZE.households
    if learner == "ppo":
        model = by_hand_sb3.PPO(
            "MlpPolicy", env, n_steps=PAPER_STEPS, gamma=0.95, device="cpu", seed=0
        )
    else:
        model = by_hand_sb3.SAC("MlpPolicy", env, gamma=0.95, device="cpu", seed=0)
    return partial(_learned, model, rows)


def _env(worlds: int) -> Any:
    from benchmarks.speed.by_hand_sb3 import HandWrittenVecEnv

    return HandWrittenVecEnv(household_parameters(experiment()), worlds)


def _learned(model: Any, rows: int) -> int:
    before = model.num_timesteps
    model.learn(rows, log_interval=None, reset_num_timesteps=False)
    return int(model.num_timesteps - before)
