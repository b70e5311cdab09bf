"""CPU seconds until the policy is within 1 % of the known answer: ours, and Stable-Baselines3's.

Theirs is SAC as the paper uses it.
"""

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
from benchmarks.speed.economy import built, household_parameters
from benchmarks.speed.rounds import Row, Say
from benchmarks.speed.sb3 import MISSING, SB3
from rl_markets import tune_configs
from rl_markets.envs.answer_key import AnswerKey
from rl_markets.envs.market import Policy
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
                f"{name}: {SB3} was {error:.3g} % off after {theirs:.0f} CPU seconds; "
                "the ratio is at least that"
            )
        for suffix, target in learners.items():
            seeds = range(economy.SIZE.accuracy_seeds)
            ours = [_ours(_experiment(f"{name}{suffix}", seed), say) for seed in seeds]
            rows.append(_row(f"{name}{suffix}", ours, theirs, target))
    return {"rows": rows, "notes": notes}


def _row(what: str, ours: list[float], theirs: float, target: float | None) -> Row:
    """A learner's seconds over seeds, beside theirs; NaN where one seed never came near enough."""
    if any(math.isnan(spent) for spent in ours):
        ours = [math.nan]
    ratios = sorted(theirs / spent for spent in ours)
    return {
        "what": what,
        "against": f"{SB3} SAC, defaults",
        "ours": median(ours),
        "theirs": theirs,
        "ratio": median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
        "target": target,
        "at_least": True,
    }


def _experiment(name: str, seed: int) -> Experiment:
    file = Path(tune_configs.__path__[0]) / f"{name}.yaml"
    return load(file, [f"seed={seed}", *economy.SIZE.accuracy])


def _answer(experiment: Experiment) -> AnswerKey:
    answer = experiment.answer_key()
    assert answer is not None
    return answer


def _ours(experiment: Experiment, say: Say) -> float:
    """CPU seconds of training until the policy is near enough; NaN where it never was."""
    answer = _answer(experiment)
    spent = 0.0
    agent_steps = 0
    with built(experiment) as (algorithm,):
        while agent_steps < experiment.training.agent_steps:
            started = time.process_time()
            algorithm.train()
            # looking at the answer is not training, and its time is not counted
            spent += time.process_time() - started
            agent_steps += experiment.agent_steps_per_iteration
            with torch.no_grad():
                near = answer.distance(_policies(algorithm, experiment)) < WITHIN
            if near:
                break
        else:
            spent = math.nan
    say(f"{experiment.name}, seed {experiment.seed}: {spent:.1f} CPU seconds")
    return spent


def _policies(algorithm: Any, experiment: Experiment) -> dict[str, Policy]:
    """Group -> the policy that is deployed."""
    policies = dict[str, Policy]()
    for name, section in experiment.learned.items():
        policy = Policy(algorithm.get_module(name).deployed.act)
        policies |= dict.fromkeys(section.groups, policy)
    return policies


def _theirs(experiment: Experiment, say: Say) -> tuple[float, bool, float]:
    """CPU seconds that Stable-Baselines3's SAC took, whether it came near enough, and how near."""
    from benchmarks.speed import by_hand_sb3  # here, as Stable-Baselines3 is optional

    answer = _answer(experiment)
    parameters = household_parameters(experiment)
    env = by_hand_sb3.HandWrittenVecEnv(parameters, 1)
    model = by_hand_sb3.SAC(
        "MlpPolicy", env, gamma=parameters.beta, device="cpu", seed=experiment.seed
    )

    def act(observations: Tensor) -> Tensor:
        flat = observations.reshape(-1, observations.shape[-1]).numpy()
        actions, _ = model.predict(flat, deterministic=True)
        return torch.from_numpy(actions).reshape(*observations.shape[:-1], 2)

    spent = 0.0
    error = math.inf
    steps = economy.SIZE.accuracy_look * env.num_envs
    while spent < economy.SIZE.patience and error >= WITHIN:
        started = time.process_time()
        model.learn(steps, log_interval=None, reset_num_timesteps=False)
        spent += time.process_time() - started
        error = answer.distance({"households": Policy(act)})
        say(f"{SB3}, {experiment.name}: {error:.3g} % off after {spent:.0f} CPU seconds")
    return spent, error < WITHIN, error
