"""CPU seconds until the policy is within 1 % of the known answer: ours, and Stable-Baselines3's SAC
as the paper uses it."""

from __future__ import annotations

import math
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed import economy
from benchmarks.speed.economy import built
from benchmarks.speed.rounds import Row, Say
from benchmarks.speed.sb3 import MISSING, SB3
from rl_markets import tune_configs
from rl_markets.envs.answer_key import AnswerKey
from rl_markets.experiment import Experiment, load

WITHIN = 1.0
"""% of the answer, the larger of both actions' mean errors."""
ROUTES: tuple[tuple[str, dict[str, float | None]], ...] = (
    (
        "households-full-depreciation",
        {"-analytic": 20.0, "-sac": 5.0, "-td3": None, "-ddpg": None, "": None},
    ),
    ("households-rbc", {"-analytic": 20.0}),
)
"""Economy -> our learners by the suffix of their file, with the ratio aimed at."""


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """Ours over seeds, theirs once, for `SIZE.patience` CPU seconds at most."""
    if find_spec("stable_baselines3") is None:
        return {"rows": [], "notes": [MISSING]}
    rows = []
    notes = [f"CPU seconds of training until both actions are within {WITHIN:g} %; NaN: never"]
    for name, learners in ROUTES:
        theirs, reached, error = _theirs(_experiment(name, 0), say)
        if not reached:
            notes.append(
                f"{name}: {SB3} was {error:.3g} % off after {theirs:.0f} CPU seconds; the ratio is "
                "at least that"
            )
        for suffix, target in learners.items():
            ours = [
                _ours(_experiment(f"{name}{suffix}", seed), say)
                for seed in range(economy.SIZE.accuracy_seeds)
            ]
            rows.append(_row(f"{name}{suffix}", ours, theirs, target))
    return {"rows": rows, "notes": notes}


def _row(what: str, ours: list[float], theirs: float, target: float | None) -> Row:
    ratios = sorted(theirs / mine for mine in ours)
    missed = any(math.isnan(r) for r in ratios)
    middle, low, high = (math.nan,) * 3 if missed else (median(ratios), ratios[0], ratios[-1])
    return {
        "what": what,
        "against": f"{SB3} SAC, defaults",
        "ours": math.nan if missed else median(ours),
        "theirs": theirs,
        "ratio": middle,
        "lowest": low,
        "highest": high,
        "target": target,
        "at_least": True,
    }


def _experiment(name: str, seed: int) -> Experiment:
    file = Path(tune_configs.__path__[0]) / f"{name}.yaml"
    return load(file, [f"seed={seed}", *economy.SIZE.accuracy])


def _answer(experiment: Experiment) -> AnswerKey:
    key = experiment.answer_key()
    assert key is not None
    return key


def _ours(experiment: Experiment, say: Say) -> float:
    """CPU seconds of training until the policy is near enough; NaN where it never was."""
    key = _answer(experiment)
    spent = 0.0
    agent_steps = 0
    with built(experiment) as (algorithm,):
        while agent_steps < experiment.training.agent_steps:
            started = time.process_time()
            algorithm.train()
            spent += time.process_time() - started
            agent_steps += experiment.agent_steps_per_iteration
            deployed = {
                g: algorithm.get_module(p).deployed
                for p, s in experiment.learned.items()
                for g in s.groups
            }
            with torch.no_grad():
                near = (
                    key.distance({group: actor.act for group, actor in deployed.items()}) < WITHIN
                )
            if near:
                break
        else:
            spent = math.nan
    say(f"{experiment.name}, seed {experiment.seed}: {spent:.1f} CPU seconds")
    return spent


def _theirs(experiment: Experiment, say: Say) -> tuple[float, bool, float]:
    """CPU seconds that Stable-Baselines3's SAC took, whether it came near enough, and how near it
    is."""
    from benchmarks.speed import by_hand_sb3

    key = _answer(experiment)
    parameters = experiment.market_parameters
    env = by_hand_sb3.HandWrittenVecEnv(parameters, 1)  # type: ignore[arg-type]
    model = by_hand_sb3.SAC(
        "MlpPolicy", env, gamma=parameters.beta, device="cpu", seed=experiment.seed
    )  # type: ignore[attr-defined]

    def policy(observations: Tensor) -> Tensor:
        flat = observations.reshape(-1, observations.shape[-1]).numpy()
        return torch.from_numpy(model.predict(flat, deterministic=True)[0]).reshape(
            *observations.shape[:-1], 2
        )

    spent = 0.0
    error = math.inf
    while spent < economy.SIZE.patience and error >= WITHIN:
        started = time.process_time()
        model.learn(
            economy.SIZE.accuracy_look * env.num_envs, log_interval=None, reset_num_timesteps=False
        )
        spent += time.process_time() - started
        error = key.distance({"households": policy})
        say(f"{SB3}, {experiment.name}: {error:.3g} % off after {spent:.0f} CPU seconds")
    return spent, error < WITHIN, error
