"""DQN of the season of Gallego and van Ryzin, end to end: ours, and RLlib's own.

RLlib's own learns on the same market, through our adapter.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.tune.registry import register_env
from torch import Tensor

from benchmarks.speed import economy
from benchmarks.speed.economy import built, warm_up
from benchmarks.speed.rounds import OURS, STOCK, Say, Work, compared, fastest, in_turns
from rl_markets import tune_configs
from rl_markets.envs.adapters import to_multi_agent_env
from rl_markets.envs.answer_key import AnswerKey
from rl_markets.experiment import Experiment, load
from rl_markets.quiet import quiet_logs
from rl_markets.rllib.build import algorithm_config, one_world

FILE = "pricing-gvr"
TARGET = 10.0


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """Environment steps of training in turns; then both from the start, for as many CPU seconds."""
    torch.set_num_threads(1)
    size = economy.SIZE
    ours = experiment()
    with built(ours, *(stock(ours, envs) for envs in size.pricing_envs)) as (mine, *others):
        candidates = dict(zip(size.pricing_envs, others, strict=True))
        for algorithm in (mine, *others):
            warm_up(algorithm)
        works = {n: partial(_trained, algorithm) for n, algorithm in candidates.items()}
        envs = fastest(works, seconds / 2)
        say(f"RLlib's own DQN takes most steps with {envs} environments")
        sides: dict[str, Work] = {
            OURS: partial(_trained, mine),
            STOCK: partial(_trained, candidates[envs]),
        }
        rates = in_turns(sides, seconds, size.rounds, say)
    row = compared("environment steps of training", STOCK, rates[OURS], rates[STOCK], TARGET)
    losses = _losses(ours, envs, row["theirs"], say)
    return {"rows": [row], "notes": _notes(envs, losses), "stock_envs": envs, "equal_time": losses}


def _notes(envs: int, losses: dict[str, float]) -> list[str]:
    return [
        "networks of both: 2 layers of 64; "
        f"environment steps for each gradient step of 256 rows: ours 64, theirs {envs}",
        f"after {losses['seconds']:.0f} CPU seconds of training each, from the start, "
        "lost against the dynamic programme: "
        f"ours {losses['ours']:.2f} % ({losses['our_steps']:.0f} steps), "
        f"theirs {losses['theirs']:.2f} % ({losses['their_steps']:.0f} steps, "
        "exploration planned for as many, rewards divided by the list price)",
    ]


def experiment() -> Experiment:
    """The shipped experiment."""
    return load(Path(tune_configs.__path__[0]) / f"{FILE}.yaml", list(economy.SIZE.pricing))


class OneChoice(MultiAgentEnv):  # type: ignore[misc]
    """The adapter with a single choice as `Discrete`, which is what RLlib's DQN takes.

    Rewards are in list prices: RLlib's DQN does not normalise, and in money it learns nothing in
    this time.
    """

    def __init__(self, market: Any) -> None:
        self.env = to_multi_agent_env(market)
        self.unit = market.parameters.list_price[0]
        self.possible_agents = self.env.possible_agents
        self.agents = self.env.agents
        self.observation_spaces = self.env.observation_spaces
        self.action_spaces = {
            a: gym.spaces.Discrete(int(s.nvec[0])) for a, s in self.env.action_spaces.items()
        }
        super().__init__()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """A fresh episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self.agents = self.env.agents
        return observations, infos

    def step(self, action_dict: dict[str, Any]) -> Any:
        """One period."""
        actions = {agent: np.array([action]) for agent, action in action_dict.items()}
        observations, rewards, *ends_and_infos = self.env.step(actions)
        self.agents = self.env.agents
        in_list_prices = {agent: reward / self.unit for agent, reward in rewards.items()}
        return observations, in_list_prices, *ends_and_infos


def stock(ours: Experiment, envs: int, steps: int = 0) -> Any:
    """RLlib's own DQN with our networks, step size, batches, replay and exploration.

    Exploration is planned for so many environment steps, or for as many as ours has.
    """
    quiet_logs()
    register_env("rl-markets-bench-pricing", lambda _: OneChoice(one_world(ours)))
    p = next(iter(algorithm_config(ours).learner_config_dict["policies"].values()))
    section = ours.policies["seller"]
    steps = steps or ours.training.agent_steps
    ends = max(2, round(p.exploration_share * steps))
    config = DQNConfig().environment("rl-markets-bench-pricing")
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=envs)
    config.multi_agent(policies={"seller"}, policy_mapping_fn=_shared)
    config.training(
        train_batch_size_per_learner=p.batch_size,
        lr=p.learning_rate,
        gamma=1.0,
        n_step=1,
        double_q=True,
        dueling=False,
        num_atoms=1,
        tau=p.target_rate,
        target_network_update_freq=1,
        epsilon=[[0, 1.0], [ends, p.final_exploration]],
        num_steps_sampled_before_learning_starts=economy.SIZE.pricing_warm_up,
        replay_buffer_config={"type": "MultiAgentEpisodeReplayBuffer", "capacity": p.capacity},
    )
    config.rl_module(
        model_config={"fcnet_hiddens": list(section.hidden), "fcnet_activation": section.activation}
    )
    config.reporting(min_time_s_per_iteration=None, min_sample_timesteps_per_iteration=8 * envs)
    config.debugging(log_level="ERROR", seed=ours.seed)
    return config


def _shared(*_: Any, **__: Any) -> str:
    return "seller"


def _trained(algorithm: Any) -> int:
    """One training iteration; how many environment steps it took."""
    return int(algorithm.train()["env_runners"]["num_env_steps_sampled"])


# -- at equal CPU time -----------------------------------------------------------------------------


def _losses(ours: Experiment, envs: int, rate: float, say: Say) -> dict[str, float]:
    """What both lose against the dynamic programme, in %, when ours is done."""
    answer = ours.answer_key()
    assert answer is not None
    with built(ours) as (algorithm,):
        spent, our_steps = _run(algorithm, steps=ours.training.agent_steps)
        module = algorithm.get_module("seller")
        mine = _distance(answer, module.deployed.act)
        say(f"ours loses {mine:.2f} % after {spent:.1f} CPU seconds")
    # as many steps as they should take in our time, at the rate that was measured
    with built(stock(ours, envs, round(rate * spent))) as (algorithm,):
        _, their_steps = _run(algorithm, seconds=spent)
        theirs = _distance(answer, partial(_greedy, algorithm.get_module("seller")))
        say(f"{STOCK} loses {theirs:.2f} % after as many")
    steps = {"our_steps": float(our_steps), "their_steps": float(their_steps)}
    return {"seconds": spent, "ours": mine, "theirs": theirs, **steps}


def _run(
    algorithm: Any, *, steps: float = float("inf"), seconds: float = float("inf")
) -> tuple[float, int]:
    """Trains until either is reached; CPU seconds and environment steps."""
    done = 0
    started = time.process_time()
    while done < steps and time.process_time() - started < seconds:
        done += _trained(algorithm)
    return time.process_time() - started, done


@torch.no_grad()
def _distance(answer: AnswerKey, policy: Any) -> float:
    return answer.distance({"seller": policy})


def _greedy(module: Any, observations: Tensor) -> Tensor:
    """RLlib's greedy choice as our markets' action."""
    flat = observations.reshape(-1, observations.shape[-1])
    choices = torch.as_tensor(module.forward_inference({"obs": flat})["actions"])
    return choices.reshape(*observations.shape[:-1], 1)
