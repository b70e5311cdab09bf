"""What is measured: the paper's economy at several sizes, and our learners on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from rl_markets.envs.households.parameters import HouseholdsParameters
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
    """PPO: world steps of an iteration of RLlib's own, which wants at least a minibatch's rows."""
    stock_sample: int = 512
    """World steps of a sample of RLlib's own."""
    stock_envs: tuple[int, ...] = (16, 64)
    """RLlib's own PPO runner has as many environments as suit it best, and so has its SAC below."""
    replay_steps: int = 8
    """SAC: steps of a rollout."""
    updates: int = 32
    """SAC: gradient steps of an iteration.

    That makes 320 agent steps for each, as many as RLlib's own takes with 16 environments.
    """
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
    certificates: tuple[str, ...] = (
        "households-full-depreciation-analytic",
        "krusell-smith",
        "pricing-duopoly",
    )
    """Experiments whose certificates are timed."""
    certificate_rounds: int = 2
    """A certificate takes most of a minute."""
    certificate: tuple[str, ...] = ()
    """Overrides of those experiments."""
    deviator_steps: int = 0
    """Of a deviator; 0 as many as certificates give it."""
    pricing_worlds: int = 1024
    """Worlds of the pricing market alone."""
    pricing_envs: tuple[int, ...] = (16, 64)
    """Environments of RLlib's own DQN, which takes a gradient step for each step of them all."""
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
    minibatches = minibatches or max(1, rows // size.minibatch)
    parameters = {
        "ppo": {"epochs": size.epochs, "minibatches": minibatches},
        "sac": {"updates": size.updates, "batch_size": size.batch, "capacity": 100_000},
    }
    economy = {"name": "households", "worlds": worlds, "parameters": {"households": households}}
    policy = {"groups": ["households"], "separate": separate, "hidden": list(size.hidden)}
    return parse(
        {
            "name": "bench",
            "market": economy,
            "policies": {"household": policy},
            "algorithm": {"name": learner, "parameters": parameters[learner]},
            "training": {"agent_steps": 1000 * rows, "rollout_length": steps},
        },
        "bench",
    )


def household_parameters(experiment: Experiment) -> HouseholdsParameters:
    """The parameters of the experiment's economy."""
    parameters = experiment.market_parameters
    assert isinstance(parameters, HouseholdsParameters)
    return parameters


def market(households: int, worlds: int) -> Market:
    """The market alone."""
    return build_market(experiment(households=households, worlds=worlds, steps=1), "cpu")


@contextmanager
def built(*configs: Any) -> Iterator[list[Any]]:
    """RLlib algorithms, stopped in the end; experiments stand for our own."""
    torch.set_num_threads(1)  # CPU seconds are counted, and more threads would spend more of them
    algorithms: list[Any] = []
    try:
        for config in configs:
            if isinstance(config, Experiment):
                config = algorithm_config(config)
            algorithms.append(config.build_algo())
        yield algorithms
    finally:
        for algorithm in algorithms:
            algorithm.stop()


def trained(algorithm: Any, households: int = 0) -> int:
    """One training iteration; how many agent steps it took."""
    metrics = algorithm.train()["env_runners"]
    return int(metrics["num_env_steps_sampled"]) * (households or SIZE.households)


def warm_up(algorithm: Any) -> None:
    """Trains until gradient steps are taken."""
    while True:
        metrics = algorithm.train()
        # the first entry is that of all modules together; a module's own comes when it has learned
        if len(metrics.get("learners", ())) > 1:
            return


def sampled(algorithm: Any) -> int:
    """One sample of an algorithm's runner; how many agent steps it has.

    Ours is always a rollout, whatever is asked for.
    """
    runner = algorithm.env_runner_group.local_env_runner
    episodes = runner.sample(num_timesteps=SIZE.stock_sample)
    steps = sum(int(episode.agent_steps()) for episode in episodes)
    runner.get_metrics()  # an algorithm takes them after each sample, too
    return steps
