"""What is measured: the paper's economy at several sizes, and our learners on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from rl_markets.envs.market import Market
from rl_markets.experiment import Experiment, parse
from rl_markets.rllib.build import algorithm_config, build_market


@dataclass(frozen=True)
class Size:
    """How large everything is; the tests shrink it."""

    households: int = 20
    worlds: int = 64
    rounds: int = 5
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 50
    """PPO: steps of a rollout."""
    epochs: int = 4
    minibatch: int = 2000
    stock_steps: int = 2048
    """PPO: world steps of an iteration of RLlib's own, which wants no fewer than a minibatch has
    rows."""
    stock_sample: int = 512
    """World steps of a sample of RLlib's own."""
    stock_envs: tuple[int, ...] = (16, 64)
    """RLlib's own PPO runner is measured with as many environments as suit it best, and so is its
    SAC below."""
    replay_steps: int = 8
    """SAC: steps of a rollout."""
    updates: int = 32
    """SAC: gradient steps of an iteration; 320 agent steps for each, as many as RLlib's own takes
    with 16 environments."""
    batch: int = 256
    stock_replay_envs: tuple[int, ...] = (1, 16)
    stock_replay_warm_up: int = 128
    separate_steps: int = 256
    """World steps of an iteration of RLlib's own with a module for each household."""
    many: tuple[int, int, int] = (529, 32, 16)
    """Separate policies of many: households, worlds, steps of a rollout."""
    large: int = 10_000
    """Households of the market measured in a single world."""
    accuracy_seeds: int = 3
    patience: float = 300.0
    """Accuracy: CPU seconds that Stable-Baselines3 has."""
    accuracy_look: int = 500
    """Steps of its worlds between two looks."""
    accuracy: tuple[str, ...] = ()
    """Overrides of our experiments."""
    pricing_worlds: int = 1024
    """Worlds of the pricing market alone."""
    pricing_envs: tuple[int, ...] = (16, 64)
    """Environments of RLlib's own DQN, which takes a gradient step for each step of all of them."""
    pricing_warm_up: int = 1024
    pricing: tuple[str, ...] = ()
    """Overrides of our experiment."""
    scales: tuple[tuple[int, int, int], ...] = (
        (1, 1280, 50),
        (20, 64, 50),
        (529, 3, 40),
        (10_000, 1, 6),
    )
    """Scaling: households, worlds and steps with about as many agent steps in each iteration."""


SIZE = Size()


def experiment(
    learner: str = "ppo",
    *,
    households: int = 0,
    worlds: int = 0,
    steps: int = 0,
    minibatches: int = 0,
    separate: bool = False,
) -> Experiment:
    """The economy with partial depreciation; what is left out is as `SIZE` has it."""
    size = SIZE
    households = households or size.households
    worlds = worlds or size.worlds
    steps = steps or (size.steps if learner == "ppo" else size.replay_steps)
    rows = worlds * steps * households
    parameters = {
        "ppo": {
            "epochs": size.epochs,
            "minibatches": minibatches or max(1, rows // size.minibatch),
        },
        "sac": {"updates": size.updates, "batch_size": size.batch, "capacity": 100_000},
    }
    policy = {"groups": ["households"], "separate": separate, "hidden": list(size.hidden)}
    return parse(
        {
            "name": "bench",
            "market": {
                "name": "households",
                "worlds": worlds,
                "parameters": {"households": households},
            },
            "policies": {"household": policy},
            "algorithm": {"name": learner, "parameters": parameters[learner]},
            "training": {"agent_steps": 1000 * rows, "rollout_length": steps},
        },
        "bench",
    )


def market(households: int, worlds: int) -> Market:
    """The market alone."""
    return build_market(experiment(households=households, worlds=worlds, steps=1), "cpu")


@contextmanager
def built(*configs: Any) -> Iterator[list[Any]]:
    """RLlib algorithms, stopped in the end; experiments stand for our own."""
    torch.set_num_threads(1)
    algorithms: list[Any] = []
    try:
        for config in configs:
            ours = isinstance(config, Experiment)
            algorithms.append((algorithm_config(config) if ours else config).build_algo())
        yield algorithms
    finally:
        for algorithm in algorithms:
            algorithm.stop()


def trained(algorithm: Any, households: int = 0) -> int:
    """One training iteration; how many agent steps it took."""
    found = algorithm.train()["env_runners"]
    return int(found["num_env_steps_sampled"]) * (households or SIZE.households)


def sampled(algorithm: Any) -> int:
    """One sample of an algorithm's runner; how many agent steps it has. Ours is always a
    rollout."""
    runner = algorithm.env_runner_group.local_env_runner
    steps = sum(
        int(episode.agent_steps()) for episode in runner.sample(num_timesteps=SIZE.stock_sample)
    )
    runner.get_metrics()
    return steps
